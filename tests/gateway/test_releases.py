"""Two releases side by side, as in an upgrade: another text of the script, another schema."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from flashgrab import keys
from flashgrab.scripts import GRAB
from tests.gateway.process import COMMAND, Running, environment, publish, running, until
from tests.gateway.release import NEXT
from tests.lua.server import Client, Valkey

pytestmark = pytest.mark.xdist_group("gateways")

ROOT = str(Path(__file__).parent.parent.parent)
QUOTA = 6


def entry(release: str) -> list[str]:
    return [sys.executable, "-P", "-m", "tests.gateway.release", release]


@pytest.fixture(scope="module")
def gateways(redis_server: Valkey) -> Iterator[dict[str, Running]]:
    """This release, one with another script, and one that knows a schema more."""
    commands = {"this": COMMAND, "changed": entry("changed"), "next": entry("next")}
    with ExitStack() as opened:
        started = {}
        for name, command in commands.items():
            env = environment(redis_server) | {"PYTHONPATH": ROOT}
            started[name] = opened.enter_context(running(env, command=command))
        yield started


def test_another_text_of_the_script_on_one_campaign(
    redis_server: Valkey, gateways: dict[str, Running]
) -> None:
    """Each grants, each replays what the other granted, and together they grant the quota."""
    publish(redis_server, "sides", QUOTA)
    one, other = gateways["this"], gateways["changed"]
    for gateway in (one, other):
        until("it knows the campaign", partial(gateway.knows, "sides"))
    serials = {}
    for n in range(QUOTA + 2):
        first, second = (one, other) if n % 2 else (other, one)
        granted, repeated = first.grab("sides", f"u{n}"), second.grab("sides", f"u{n}")
        if n < QUOTA:
            assert (granted.status_code, repeated.status_code) == (201, 200)
            assert granted.json()["serial"] == repeated.json()["serial"]
            serials[f"u{n}"] = granted.json()["serial"]
        else:
            assert {granted.json()["code"], repeated.json()["code"]} == {"SOLD_OUT"}
    assert sorted(serials.values()) == list(range(1, QUOTA + 1))
    client = Client(redis_server.path)
    known = client.call("SCRIPT", "EXISTS", GRAB.sha)
    assert known == [1]
    assert client.call("HGET", keys.campaign("sides"), "seq") == str(QUOTA)
    client.close()


def test_a_schema_that_one_release_does_not_know(
    redis_server: Valkey, gateways: dict[str, Running]
) -> None:
    """The newer release grants and replays; the older one refuses everybody, and never guesses:
    not from what it reads, and not by its script."""
    publish(redis_server, "newer", QUOTA, schema=NEXT)
    old, new = gateways["this"], gateways["next"]
    until("the newer one knows it", lambda: new.knows("newer"))
    until("the older one has read it", lambda: old.grab("newer", "u0").status_code == 503)
    assert [new.grab("newer", f"u{n}").status_code for n in (1, 2, 1)] == [201, 201, 200]
    for user in ("u1", "u3"):
        refused = old.grab("newer", user)
        assert (refused.status_code, refused.json()["code"]) == (503, "NOT_WARMED")
        assert refused.headers["retry-after"]
    client = Client(redis_server.path)
    assert client.call("HGET", keys.campaign("newer"), "seq") == "2"
    client.close()


def test_a_campaign_raised_under_a_gateway_that_knew_it(
    redis_server: Valkey, gateways: dict[str, Running]
) -> None:
    """Where a campaign gets the next schema while an older gateway serves it, not one more grab
    passes there, and the newer one goes on."""
    publish(redis_server, "raised", QUOTA)
    old, new = gateways["this"], gateways["next"]
    for gateway in (old, new):
        until("it knows the campaign", partial(gateway.knows, "raised"))
    assert old.grab("raised", "u1").status_code == 201
    client = Client(redis_server.path)
    client.call("HSET", keys.campaign("raised"), "schema", NEXT)
    assert old.grab("raised", "u2").json()["code"] == "NOT_WARMED"
    assert client.call("HGET", keys.campaign("raised"), "seq") == "1"
    client.close()
    until("the newer one has read it", lambda: new.grab("raised", "u3").status_code in (200, 201))
    assert old.grab("raised", "u1").json()["code"] == "NOT_WARMED"
    assert new.grab("raised", "u1").status_code == 200
