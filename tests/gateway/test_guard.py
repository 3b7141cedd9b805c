"""Risk, challenge and captcha before a pass, over HTTP; and that all of it is off by default."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from structlog.testing import capture_logs

from flashgrab.challenge import solve
from flashgrab.model import Challenge
from gateway.guard import LOGGED_A_SECOND, Demand, Lines, bits_of, claim
from gateway.risk.score import Action, Judged
from tests.gateway.asking import ask_pass, assert_problem, identity
from tests.gateway.captcha_provider import GOOD, SECRET, Provider, provider
from tests.gateway.serving import RULE, Served, serving
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

RULES = """
mode = "MODE"
challenge_at = 10
refuse_at = 100
[[rules]]
name = "young"
when = ["account_age_h < 24"]
points = 10
[[rules]]
name = "shared-device"
when = ["device_accounts >= 3"]
points = 100
[[rules]]
name = "page-was-read"
when = ["page_ms >= 1"]
points = -10
"""


async def challenging(served: Served, **challenge: Any) -> str:
    """A campaign that asks for something before a pass."""
    campaign_id = await served.campaign()
    definition = {"name": "A test", "rule": RULE, "challenge": challenge}
    await served.set(campaign_id, {"definition": orjson.dumps(definition).decode()})
    return campaign_id


@pytest.fixture(scope="module")
async def risky(
    redis_server: Valkey, anyio_backend: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Served]:
    """A gateway that enforces the rules above."""
    path = tmp_path_factory.mktemp("risk") / "rules.toml"
    path.write_text(RULES.replace("MODE", "enforce"))
    async with serving(redis_server.url, demo=False, risk_rules=str(path)) as gateway:
        yield gateway


@pytest.fixture
async def vouching() -> AsyncIterator[Provider]:
    async with provider() as running:
        yield running


def young(user: str) -> dict[str, str]:
    return identity(user, account_created=int(time.time()))


def challenge_in(response: httpx2.Response) -> Any:
    return assert_problem(response, 403, "CHALLENGE_REQUIRED")["challenge"]


# -- the challenge -------------------------------------------------------------------------------


async def test_it_is_off_by_default(strict: Served) -> None:
    """No challenge, no stamp in what a page reads, no risk; a header more changes nothing."""
    campaign_id = await strict.campaign()
    extra = {"x_challenge_answer": "x", "x_page_stamp": "x"}
    assert (await ask_pass(strict, campaign_id, **identity(), **extra)).status_code == 201
    assert "page_stamp" not in (await strict.http.get(f"/v1/campaigns/{campaign_id}")).json()


async def test_a_pass_for_a_solved_challenge(strict: Served) -> None:
    """403 with the challenge; its answer gets the pass, for its user and campaign only."""
    campaign_id = await challenging(strict, ask="always", bits=3, bits_max=3)
    other = await challenging(strict, ask="always", bits=3, bits_max=3)
    asked = challenge_in(await ask_pass(strict, campaign_id, **identity("anna")))
    assert set(asked) == {"kind", "token", "bits", "parts", "expires_at"}
    assert (asked["kind"], asked["bits"]) == ("work", 3)
    answer = {"x_challenge_answer": solve(asked["token"], asked["bits"])}
    for user, where in (("bert", campaign_id), ("anna", other)):
        challenge_in(await ask_pass(strict, where, **identity(user), **answer))
    given = await ask_pass(strict, campaign_id, **identity("anna"), **answer)
    assert given.status_code == 201
    bearer = {"authorization": f"Bearer {given.json()['pass']}"}
    grab = await strict.http.post(f"/v1/campaigns/{campaign_id}/grabs", headers=bearer)
    assert grab.status_code == 201


async def test_who_may_not_ask_gets_no_challenge(strict: Served) -> None:
    """Identity and campaign come first: nothing is signed for strangers."""
    campaign_id = await challenging(strict, ask="always", bits=3, bits_max=3)
    assert_problem(await ask_pass(strict, campaign_id), 401, "IDENTITY_INVALID")


async def test_load_asks_for_it_and_makes_it_harder(strict: Served) -> None:
    """Calm: none. Past it: a challenge, and a harder one the more there are."""
    campaign_id = await challenging(strict, ask="load", bits=2, bits_max=6, calm=3)
    assert (await ask_pass(strict, campaign_id, **identity())).status_code == 201
    answers = [await ask_pass(strict, campaign_id, **identity(f"u{n}")) for n in range(60)]
    bits = [challenge_in(answer)["bits"] for answer in answers if answer.status_code == 403]
    assert bits
    assert max(bits) > 2
    assert max(bits) <= 6


async def test_risk_without_rules_asks_for_nothing(strict: Served) -> None:
    """A campaign that leaves it to the risk, on a gateway without rules."""
    campaign_id = await challenging(strict, ask="risk")
    assert (await ask_pass(strict, campaign_id, **identity())).status_code == 201


async def test_a_form_of_another_release_is_asked_always(strict: Served) -> None:
    """What this release cannot read does not open the door."""
    campaign_id = await challenging(strict, kind="dance", ask="never")
    assert challenge_in(await ask_pass(strict, campaign_id, **identity()))["kind"] == "work"


def test_bits_rise_with_the_demand() -> None:
    """One more at each doubling past what is calm, up to the bound."""
    wanted = Challenge(bits=10, bits_max=13, calm=100)
    rates = [1, 99, 100, 199, 200, 399, 400, 800, 100_000]
    assert [bits_of(wanted, rate) for rate in rates] == [10, 10, 10, 10, 11, 11, 12, 13, 13]


def test_demand_is_of_the_last_second() -> None:
    """The second before fades out in this one; a pause ends it."""
    demand = Demand()
    for n in range(100):
        demand.count(5000 + n)
    assert demand.count(6000) == 101
    assert demand.count(6500) == 52
    assert demand.count(9000) == 1


async def test_the_worker_script_is_served(served: Served) -> None:
    """From the page's own origin, as JavaScript."""
    response = await served.http.get("/static/challenge-worker.js")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/javascript")
    assert "onmessage" in response.text


# -- the captcha ---------------------------------------------------------------------------------


async def test_a_captcha_is_verified_with_its_provider(
    redis_server: Valkey, vouching: Provider
) -> None:
    """The answer goes to the provider with the secret; without one nobody is asked."""
    changes: dict[str, Any] = {"captcha_verify_url": vouching.url, "captcha_secret": SECRET}
    async with serving(redis_server.url, captcha_site_key="site", **changes) as served:
        campaign_id = await challenging(served, kind="captcha", ask="always")
        shown = challenge_in(await ask_pass(served, campaign_id, **identity()))
        assert shown == {"kind": "captcha", "site_key": "site"}
        assert vouching.asked == []
        challenge_in(await ask_pass(served, campaign_id, **identity(), x_challenge_answer="bad"))
        given = await ask_pass(served, campaign_id, **identity(), x_challenge_answer=GOOD)
        assert given.status_code == 201
        assert vouching.asked[-1] == {"secret": [SECRET], "response": [GOOD]}


OK = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 500 Oh\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
        b'HTTP/1.1 302 Go\r\nlocation: /yes\r\ncontent-length: 16\r\n\r\n{"success":true}',
        OK + b"content-length: 2\r\n\r\n[]",
        OK + b'content-length: 15\r\n\r\n{"success":"1"}',
        OK + b"content-length: 4\r\n\r\ntrue",
        OK + b"content-length: 20000\r\n\r\n" + b" " * 20_000,
        OK + b"content-length: 9\r\n\r\n{",
        b"junk",
        b"",
        None,
    ],
    ids=["500", "redirect", "list", "text", "bare", "long", "short", "junk", "closed", "silent"],
)
async def test_a_captcha_fails_closed(
    redis_server: Valkey, vouching: Provider, raw: bytes | None
) -> None:
    """Whatever the provider says instead of a verdict, or if it says nothing: 503, no pass, and
    no secret in the log."""
    vouching.raw, vouching.stall = raw, raw is None
    changes: dict[str, Any] = {"captcha_verify_url": vouching.url, "captcha_secret": SECRET}
    waits_ms = 300 if raw is None else 30_000
    async with serving(redis_server.url, captcha_timeout_ms=waits_ms, **changes) as served:
        campaign_id = await challenging(served, kind="captcha", ask="always")
        with capture_logs() as lines:
            answer = await ask_pass(served, campaign_id, **identity(), x_challenge_answer=GOOD)
        assert_problem(answer, 503, "BACKEND_UNAVAILABLE")
        assert len(vouching.asked) == 1
        assert [line["event"] for line in lines] == ["captcha_unavailable"]
        assert SECRET not in str(lines)


async def test_without_a_provider_there_are_no_passes(strict: Served) -> None:
    """A campaign that wants a captcha, on a gateway that has none: 503."""
    campaign_id = await challenging(strict, kind="captcha", ask="always")
    answer = await ask_pass(strict, campaign_id, **identity(), x_challenge_answer=GOOD)
    assert_problem(answer, 503, "BACKEND_UNAVAILABLE")


# -- the risk ------------------------------------------------------------------------------------


async def test_a_young_account_is_challenged_and_a_farm_refused(risky: Served) -> None:
    """By the claim of the token and by what was seen; the answer says nothing of the reasons."""
    campaign_id = await risky.campaign()
    assert (await ask_pass(risky, campaign_id, **identity("old"))).status_code == 201
    with capture_logs() as lines:
        shown = challenge_in(await ask_pass(risky, campaign_id, **young("new")))
        assert shown["kind"] == "work"
        for user in ("f1", "f2"):
            given = await ask_pass(risky, campaign_id, x_device_id="farm", **identity(user))
            assert given.status_code == 201
        refused = await ask_pass(risky, campaign_id, x_device_id="farm", **identity("f3"))
    body = assert_problem(refused, 403, "BLOCKED")
    assert "device" not in str(body).lower()
    said = {line["user"]: (line["decision"], line["reasons"]) for line in lines}
    assert said == {"new": ("challenge", ["young"]), "f3": ("refuse", ["shared-device"])}


async def test_the_page_that_was_read_speaks_for_a_person(risky: Served) -> None:
    """The stamp of a look at the campaign counts, of this campaign and unchanged only."""
    campaign_id, other = await risky.campaign(), await risky.campaign()
    seen = await risky.http.get(f"/v1/campaigns/{campaign_id}")
    stamp = seen.json()["page_stamp"]
    again = {"if-none-match": seen.headers["etag"]}
    assert (await risky.http.get(f"/v1/campaigns/{campaign_id}", headers=again)).status_code == 304
    challenge_in(await ask_pass(risky, other, **young("p1"), x_page_stamp=stamp))
    challenge_in(await ask_pass(risky, campaign_id, **young("p2"), x_page_stamp=stamp + "0"))
    given = await ask_pass(risky, campaign_id, **young("p3"), x_page_stamp=stamp)
    assert given.status_code == 201


async def test_metrics_have_every_decision(risky: Served) -> None:
    """Counted by mode and decision, whatever the log leaves out."""
    campaign_id = await risky.campaign()
    decided = ("flashgrab_risk_decisions", ("enforce", "challenge"))
    before = risky.metrics.values.get(decided, 0)
    for n in range(3):
        challenge_in(await ask_pass(risky, campaign_id, **young(f"many{n}")))
    assert risky.metrics.values[decided] == before + 3


def test_what_it_logs_is_bounded() -> None:
    """So many lines a second; the next one says how many were left out."""
    lines, judged = Lines(), Judged(Action.REFUSE, Action.REFUSE, 9, ("rule",))
    with capture_logs() as said:
        for n in range(5 * LOGGED_A_SECOND):
            lines.say(judged, "enforce", "spring", f"u{n}", "192.0.2.1", 7000 + n)
        lines.say(judged, "enforce", "spring", "later", "192.0.2.1", 8000)
    assert len(said) == LOGGED_A_SECOND + 1
    assert said[-1]["left_out"] == 4 * LOGGED_A_SECOND
    assert {line["left_out"] for line in said[:-1]} == {0}


async def test_in_shadow_everybody_passes(redis_server: Valkey, tmp_path: Path) -> None:
    """And the log says what would have been."""
    (tmp_path / "rules.toml").write_text(RULES.replace("MODE", "shadow"))
    async with serving(redis_server.url, risk_rules=str(tmp_path / "rules.toml")) as served:
        campaign_id = await served.campaign()
        with capture_logs() as lines:
            given = await ask_pass(served, campaign_id, **young("new"))
        assert given.status_code == 201
        assert [(line["mode"], line["decision"]) for line in lines] == [("shadow", "challenge")]


@pytest.mark.parametrize(
    "token", ["", "a", "a.b.c", "a.e30.c", "a.W10.c", "a.!!.c", "a.eyJuIjoieCJ9.c"]
)
def test_a_claim_that_is_not_there(token: str) -> None:
    """No number, no account age; and no exception."""
    assert claim(token, "n") is None


async def test_no_redis_command_more(risky: Served) -> None:
    """The risk is judged from memory."""
    campaign_id = await risky.campaign()
    redis: Any = risky.store._redis
    before = await redis.info("commandstats")
    for n in range(20):
        await ask_pass(risky, campaign_id, **young(f"quiet{n}"))
    after = await redis.info("commandstats")
    calls = [stats.get("cmdstat_evalsha", {"calls": 0})["calls"] for stats in (before, after)]
    assert calls[0] == calls[1]
