"""Every outcome of a grab over HTTP, and which of two wins where both would be true."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import httpx2
import pytest

from flashgrab import keys
from flashgrab.clock import to_rfc3339
from flashgrab.outcomes import Outcome
from tests.gateway.serving import HOUR_MS, Served

pytestmark = pytest.mark.anyio


@dataclass
class Attempt:
    """A grab in the making: conditions change it, or the campaign behind it."""

    served: Served
    campaign_id: str
    user: str = "me"
    device: str = "phone"
    key: str = "key-1"
    path_id: str = ""
    token: str = ""
    body: bytes = b""
    later: list[tuple[dict[str, Any], int]] = field(default_factory=list)

    async def holder(self, entry: str) -> None:
        """What this user holds already."""
        name = keys.holders(self.campaign_id)
        known = await self.served.store.holder(self.campaign_id, self.user)
        await self.served.store._redis.hset(name, self.user, known + entry)

    async def send(self) -> httpx2.Response:
        """The grab, all conditions in place."""
        for fields, number in self.later:
            await self.served.set(self.campaign_id, fields, number)
        token = self.token or self.served.token(self.campaign_id, self.user, self.device)
        return await self.served.http.post(
            f"/v1/campaigns/{self.path_id or self.campaign_id}/grabs",
            headers={"authorization": f"Bearer {token}", "idempotency-key": self.key},
            content=self.body,
        )


async def _invalid_request(a: Attempt) -> None:
    a.body = b"x"


async def _bad_key(a: Attempt) -> None:
    a.key = "no spaces"


async def _bad_pass(a: Attempt) -> None:
    a.token = (a.token or a.served.token(a.campaign_id, a.user, a.device))[:-4] + "AAAA"


async def _other_pass(a: Attempt) -> None:
    a.token = a.served.token("another", a.user, a.device)


async def _unknown_campaign(a: Attempt) -> None:
    a.path_id = "nobody-knows-this"
    if not a.token:
        a.token = a.served.token(a.path_id, a.user, a.device)


async def _not_warmed(a: Attempt) -> None:
    a.later.append(({"run": "another-run"}, 0))


async def _replay(a: Attempt) -> None:
    await a.holder("7,9,1,g,key-1;")


async def _offline(a: Attempt) -> None:
    a.later.append(({"status": "OFFLINE"}, 0))


async def _ended(a: Attempt) -> None:
    now_ms = a.served.gateway.redis_clock.now_ms()
    a.later.append(({"opens_at": now_ms - HOUR_MS, "closes_at": now_ms - 1000}, 1))


async def _paused(a: Attempt) -> None:
    a.later.append(({"status": "PAUSED"}, 0))


async def _not_started(a: Attempt) -> None:
    now_ms = a.served.gateway.redis_clock.now_ms()
    a.later.append(({"opens_at": now_ms + HOUR_MS, "closes_at": now_ms + 2 * HOUR_MS}, 1))


async def _outbox_full(a: Attempt) -> None:
    a.later.append(({"outbox_max": 0}, 0))


async def _user_limit(a: Attempt) -> None:
    await a.holder("5,6,1,g,earlier;")


async def _device_limit(a: Attempt) -> None:
    await a.served.store._redis.hset(keys.devices(a.campaign_id), a.device, 2)


async def _sold_out(a: Attempt) -> None:
    a.later.append(({"left": 0}, 1))


Condition = Callable[[Attempt], Awaitable[None]]

CONDITIONS: list[tuple[Outcome, Condition]] = [
    (Outcome.INVALID_REQUEST, _invalid_request),
    (Outcome.IDEMPOTENCY_KEY_INVALID, _bad_key),
    (Outcome.PASS_INVALID, _bad_pass),
    (Outcome.PASS_OTHER_CAMPAIGN, _other_pass),
    (Outcome.CAMPAIGN_NOT_FOUND, _unknown_campaign),
    (Outcome.NOT_WARMED, _not_warmed),
    (Outcome.REPLAYED, _replay),
    (Outcome.OFFLINE, _offline),
    (Outcome.ENDED, _ended),
    (Outcome.PAUSED, _paused),
    (Outcome.NOT_STARTED, _not_started),
    (Outcome.BUSY, _outbox_full),
    (Outcome.USER_LIMIT, _user_limit),
    (Outcome.DEVICE_LIMIT, _device_limit),
    (Outcome.SOLD_OUT, _sold_out),
]
EXCLUSIVE = {
    frozenset({Outcome.OFFLINE, Outcome.PAUSED}),  # one status
    frozenset({Outcome.ENDED, Outcome.NOT_STARTED}),  # one round
}
PAIRS = [
    pair for pair in combinations(CONDITIONS, 2) if frozenset(o for o, _ in pair) not in EXCLUSIVE
]


async def _attempt(served: Served) -> Attempt:
    return Attempt(served, await served.campaign(quota=5, per_device=2))


def _code(response: httpx2.Response) -> str:
    if response.status_code == 201:
        return "GRANTED"
    if response.status_code == 200:
        return "REPLAYED"
    return str(response.json()["code"])


@pytest.mark.parametrize("pair", PAIRS, ids=lambda p: "-".join(o.name for o, _ in p))
async def test_the_earlier_outcome_wins(
    served: Served, pair: tuple[tuple[Outcome, Condition], tuple[Outcome, Condition]]
) -> None:
    """Of two conditions that both hold, the one that contract §2 names first is answered."""
    attempt = await _attempt(served)
    for _, arrange in reversed(pair):
        await arrange(attempt)
    response = await attempt.send()
    assert _code(response) == pair[0][0].name


EXTRAS: dict[Outcome, dict[str, Any]] = {
    Outcome.INVALID_REQUEST: {"detail": "A grab has an empty body."},
    Outcome.USER_LIMIT: {"grab_ids": ["{id}-5"]},
}


REFUSALS = [pair for pair in CONDITIONS if pair[0] is not Outcome.REPLAYED]


@pytest.mark.parametrize("outcome, arrange", REFUSALS, ids=lambda x: getattr(x, "name", ""))
async def test_each_refusal_says_what_the_contract_says(
    served: Served, outcome: Outcome, arrange: Condition
) -> None:
    """The whole problem body, media type and headers of every refusal of a grab."""
    attempt = await _attempt(served)
    await arrange(attempt)
    response = await attempt.send()
    body = response.json()
    expected: dict[str, Any] = {
        "type": "/problems/" + outcome.name.lower().replace("_", "-"),
        "title": outcome.value.title,
        "status": outcome.value.status,
        "code": outcome.name,
        "detail": outcome.value.detail,
        **EXTRAS.get(outcome, {}),
    }
    if "grab_ids" in expected:
        expected["grab_ids"] = [f"{attempt.campaign_id}-5"]
    if outcome is Outcome.NOT_STARTED:
        expected["opens_at"] = to_rfc3339(attempt.later[0][0]["opens_at"])
        assert HOUR_MS - 1000 < body["retry_after_ms"] <= HOUR_MS
        expected["retry_after_ms"] = body["retry_after_ms"]
    elif outcome is Outcome.PAUSED or outcome.value.status in (429, 503):
        base = outcome.value.retry_after_ms
        assert base <= body["retry_after_ms"] < 2 * base
        expected["retry_after_ms"] = body["retry_after_ms"]
    assert body == expected
    assert response.status_code == outcome.value.status
    assert response.headers["content-type"] == "application/problem+json"
    if "retry_after_ms" in expected:
        assert response.headers["retry-after"] == str(-(-expected["retry_after_ms"] // 1000))
    else:
        assert "retry-after" not in response.headers
    assert response.headers.get("www-authenticate") == (
        "Bearer" if outcome.value.status == 401 else None
    )


async def test_a_grant_has_its_place_and_its_name(served: Served) -> None:
    """201 with Location and exactly the fields of the contract."""
    campaign_id = await served.campaign()
    response = await served.grab(campaign_id, key="k")
    name = f"{campaign_id}-1"
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/grabs/{name}"
    assert response.json() == {
        "grab_id": name,
        "campaign_id": campaign_id,
        "serial": 1,
        "round": 1,
        "state": "GRANTED",
    }


@pytest.mark.parametrize("change", [{}, {"status": "PAUSED"}, {"status": "OFFLINE"}])
async def test_a_replay_gives_the_same_grab(served: Served, change: dict[str, str]) -> None:
    """The same user and key get the same grab after sold out, pause and close."""
    campaign_id = await served.campaign(quota=1)
    first = await served.grab(campaign_id, key="k")
    if change:
        await served.set(campaign_id, change)
    again = await served.grab(campaign_id, key="k")
    assert again.status_code == 200
    assert again.json() == {**first.json(), "replayed": True}


async def test_a_replay_gives_the_same_grab_after_the_end(served: Served) -> None:
    """The same user and key get the same grab when the last round is over."""
    attempt = await _attempt(served)
    first = await attempt.send()
    await _ended(attempt)
    again = await attempt.send()
    assert again.json() == {**first.json(), "replayed": True}


async def test_a_replay_shows_the_present_state(served: Served) -> None:
    """Below the watermark a replay says PERSISTED, after a return RETURNED."""
    attempt = await _attempt(served)
    await attempt.holder("1,1,1,g,key-1;")
    await served.set(attempt.campaign_id, {"watermark": 1})
    assert (await attempt.send()).json()["state"] == "PERSISTED"
    other = await _attempt(served)
    await other.holder("1,1,1,r,key-1;")
    assert (await other.send()).json()["state"] == "RETURNED"


async def test_sold_out_names_the_next_round(served: Served) -> None:
    """SOLD_OUT carries next_opens_at where another round follows."""
    rounds = [(-1000, HOUR_MS, 1), (2 * HOUR_MS, 3 * HOUR_MS, 1)]
    campaign_id = await served.campaign(rounds=rounds)
    await served.grab(campaign_id, "first")
    body = (await served.grab(campaign_id, "second")).json()
    campaign = served.gateway.catalogue.get(campaign_id)
    assert campaign is not None
    assert campaign.state is not None
    assert body["code"] == "SOLD_OUT"
    assert body["next_opens_at"] == to_rfc3339(campaign.state.rounds[1].opens_at)


async def test_between_rounds_is_not_started(served: Served) -> None:
    """After a round and before the next, NOT_STARTED names the next opening."""
    rounds = [(-2 * HOUR_MS, -HOUR_MS, 1), (HOUR_MS, 2 * HOUR_MS, 1)]
    campaign_id = await served.campaign(rounds=rounds)
    body = (await served.grab(campaign_id)).json()
    campaign = served.gateway.catalogue.get(campaign_id)
    assert campaign is not None
    assert campaign.state is not None
    assert body["code"] == "NOT_STARTED"
    assert body["opens_at"] == to_rfc3339(campaign.state.rounds[1].opens_at)


async def test_the_queue_is_bounded(served: Served) -> None:
    """A full queue answers BUSY with Retry-After, in milliseconds, not a time-out."""
    campaign_id = await served.campaign()
    campaign = served.gateway.catalogue.get(campaign_id)
    assert campaign is not None
    batcher = served.gateway.batcher(campaign)
    batcher._in_flight = served.gateway.bounds.queue_max
    response = await served.grab(campaign_id)
    batcher._in_flight = 0
    assert response.status_code == 503
    assert response.json()["code"] == "BUSY"
    assert response.headers["retry-after"] in ("1", "2")
