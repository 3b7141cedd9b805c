"""What a gateway knows of campaigns and how it hears: the older never replaces the newer."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.errors import StoreUnavailable
from flashgrab.events import OutboxEntry
from flashgrab.model import Round
from flashgrab.state import CampaignState, OutboxStanding, RoundState
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from gateway.campaigns import BEGUN, BEGUN_MAX, BEGUN_MS, ENDED_TURNS, Campaign, Catalogue
from tests.gateway.serving import HOUR_MS, Served, until
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

PUSH_MS = 100
REFRESH_MS = 1000


def state(**changes: Any) -> CampaignState:
    """Two rounds, 1000 to 2000 and 3000 to 4000 ms."""
    base = CampaignState(
        campaign_id="c", schema="1", epoch=1, run="r", generation=1, version=1,
        status="PUBLISHED", definition={}, per_user=1, per_device=0, serial=0, seq=0,
        watermark=0, holes="",
        rounds=(RoundState(1, 1000, 2000, 5, 5, 0, 0), RoundState(2, 3000, 4000, 7, 7, 0, 0)),
    )  # fmt: skip
    left = changes.pop("left", None)
    if left:
        rounds = tuple(replace(r, left=n) for r, n in zip(base.rounds, left, strict=True))
        changes["rounds"] = rounds
    return replace(base, **changes)


def known(**changes: Any) -> Campaign:
    campaign = Campaign("c")
    campaign.update(state(**changes))
    return campaign


# -- one campaign, without I/O -----------------------------------------------------------------


@pytest.mark.parametrize(
    "now_ms, number, following, after_ms",
    [
        (0, 1, 2, 0),
        (1999, 1, 2, 0),
        (2000, 2, None, 2000),
        (3999, 2, None, 2000),
        (4000, 2, None, 2000),
        (9999, 2, None, 2000),
    ],
)
async def test_the_round_that_is_asked_for(
    now_ms: int, number: int, following: int | None, after_ms: int
) -> None:
    """The first round not over, the next, the end of the one before; after the last, the last."""
    found = known().current(now_ms)
    assert found is not None
    assert found[0].number == number
    assert (found[1].number if found[1] else None) == following
    assert found[2] == after_ms


@pytest.mark.parametrize(
    "now_ms, status, left, expected",
    [
        (999, "PUBLISHED", [5, 7], "NOT_STARTED"),
        (1000, "PUBLISHED", [5, 7], "CLAIMABLE"),
        (1999, "PUBLISHED", [0, 7], "SOLD_OUT"),
        (2000, "PUBLISHED", [0, 7], "NOT_STARTED"),
        (3000, "PUBLISHED", [0, 7], "CLAIMABLE"),
        (4000, "PUBLISHED", [5, 7], "ENDED"),
        (1500, "PAUSED", [0, 7], "PAUSED"),
        (4000, "PAUSED", [5, 7], "ENDED"),
        (4000, "OFFLINE", [5, 7], "OFFLINE"),
    ],
)
async def test_the_public_status(now_ms: int, status: str, left: list[int], expected: str) -> None:
    """Status by time, stock and management, in the precedence of the outcomes."""
    assert known(status=status, left=left).status(now_ms) == expected


async def test_nothing_is_known_before_the_first_state() -> None:
    """A campaign of the registry whose key was never seen is OFFLINE, missing, without times."""
    campaign = Campaign("c")
    campaign.learn(9, 9, 1, 9)
    assert (campaign.missing, campaign.status(0), campaign.ends_at) == (True, "OFFLINE", 0)
    assert campaign.current(0) is None
    assert campaign.next_opens_at(0) is None
    assert (campaign.left, campaign.floor) == ([], 0)


async def test_an_older_reply_changes_nothing() -> None:
    """Numbers of a reply count only where (generation, seq) is not below what is known."""
    campaign = known(generation=2, seq=10, left=[3, 7])
    campaign.learn(2, 12, 1, 1)
    campaign.learn(2, 11, 1, 2)
    campaign.learn(1, 99, 1, 0)
    assert campaign.left == [1, 7]
    campaign.learn(3, 12, 2, 6)
    assert campaign.left == [1, 6]
    campaign.learn(3, 13, 0, -1)
    assert campaign.left == [1, 6]


async def test_the_floor_never_falls() -> None:
    """The floor is the highest seq of replies and readings, whatever comes later."""
    campaign = known(seq=4)
    campaign.learn(1, 9, 1, 1)
    campaign.update(state(seq=5))
    campaign.update(None)
    campaign.update(state(seq=2))
    campaign.learn(1, 3, 1, 1)
    assert campaign.floor == 9


async def test_an_older_reading_changes_nothing() -> None:
    """A slow reading, or older data in place of the real ones, does not undo pause or epoch."""
    campaign = known(epoch=2, generation=3, seq=8, status="PAUSED", watermark=5, left=[1, 7])
    for older in (state(epoch=2, generation=2, seq=9), state(epoch=1, generation=9, seq=99)):
        campaign.update(older)
        assert campaign.state is not None
        assert (campaign.state.epoch, campaign.state.status) == (2, "PAUSED")
        assert (campaign.left, campaign.floor, campaign.watermark) == ([1, 7], 8, 5)


async def test_readings_count_while_replies_are_ahead() -> None:
    """Under load replies are always ahead of a reading by some seqs: status, quota and watermark
    come from the reading all the same, the stock from the reply."""
    campaign = known(seq=1)
    campaign.learn(2, 50, 1, 2)
    campaign.update(state(generation=2, seq=40, status="PAUSED", watermark=30, left=[4, 7]))
    assert campaign.state is not None
    assert (campaign.state.status, campaign.watermark) == ("PAUSED", 30)
    assert (campaign.left, campaign.floor) == ([2, 7], 50)


async def test_a_new_epoch_begins_anew() -> None:
    """After a rebuild floor, watermark and stock are those of the new epoch."""
    campaign = known(epoch=1, generation=8, seq=90, watermark=80, left=[0, 0])
    campaign.update(state(epoch=2, generation=1, seq=7, watermark=3, left=[4, 4]))
    assert (campaign.floor, campaign.watermark, campaign.left) == (7, 3, [4, 4])


async def test_a_missing_key_keeps_what_is_known() -> None:
    """Where the key is gone the campaign refuses, but still knows its rounds."""
    campaign = known()
    campaign.update(None)
    assert campaign.missing
    assert campaign.ends_at == 4000
    campaign.update(state())
    assert not campaign.missing


# -- the catalogue, against a store that fails -----------------------------------------------------


class ToldStore(Store):
    """A store whose readings are given; exceptions are raised."""

    def __init__(self, readings: dict[str, Any]) -> None:
        self.readings = readings
        self.registries = 0
        self.at_ms = 0

    async def registry(self) -> set[str]:
        self.registries += 1
        return set(self.readings)

    async def read(self, campaign_id: str) -> CampaignState | None:
        reading = self.readings.get(campaign_id)
        if isinstance(reading, Exception):
            raise reading
        return reading

    async def standings(self, campaign_ids: Iterable[str]) -> dict[str, OutboxStanding]:
        return {}

    async def now_ms(self) -> int:
        return self.at_ms

    async def changes(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""


async def test_one_damaged_campaign_does_not_hide_the_others() -> None:
    """A campaign whose keys cannot be read refuses alone, and watch.py is told of it."""
    store = ToldStore({"a": KeyError("rounds"), "b": state(), "c": ValueError("x"), "d": state()})
    catalogue = Catalogue(store, Metrics())
    catalogue.start()
    await until("refreshed twice", lambda: store.registries >= 2)
    await catalogue.stop()
    assert catalogue.loaded
    assert {c.campaign_id: c.missing for c in catalogue} == {
        "a": True, "b": False, "c": True, "d": False,
    }  # fmt: skip
    assert {c: repr(catalogue.unreadable(c)) for c in "abcd"} == {
        "a": "KeyError('rounds')", "b": "None", "c": "ValueError('x')", "d": "None",
    }  # fmt: skip


@pytest.mark.parametrize("error", [StoreUnavailable("gone"), RuntimeError("a fault of ours")])
async def test_the_refresh_goes_on_after_any_error(error: Exception) -> None:
    """Neither Redis being away nor a fault of ours ends the refresh."""
    store = ToldStore({"a": error})
    catalogue = Catalogue(store, Metrics())
    catalogue.start()
    try:
        await until("tried", lambda: store.registries)
        assert not catalogue.loaded
        store.readings["a"] = state()
        await until("loaded", lambda: catalogue.loaded)
    finally:
        await catalogue.stop()


async def test_what_is_left_is_shown_of_what_there_is() -> None:
    """Not of a campaign whose keys are gone, nor of one that the registry has no more."""
    store, metrics = ToldStore({"a": state(), "b": state(campaign_id="b")}), Metrics()
    catalogue = Catalogue(store, metrics)

    def shown() -> set[tuple[str, ...]]:
        return {labels for name, labels in metrics.values if name == "flashgrab_left"}

    await catalogue._refresh_all()
    assert shown() == {("a", "1"), ("a", "2"), ("b", "1"), ("b", "2")}
    store.readings["a"] = None
    await catalogue._refresh_all()
    assert shown() == {("b", "1"), ("b", "2")}
    store.readings = {}
    await catalogue._refresh_all()
    assert shown() == set()


async def test_counters_of_a_sale_stand_at_zero_before_it() -> None:
    """Those of a sale that is near, once it is; not of one that is over or far away, and not of
    more than a bound of them at once."""
    store, metrics = ToldStore({"c": state(), "far": _from(2 * BEGUN_MS, "far")}), Metrics()
    catalogue = Catalogue(store, metrics)

    def begun() -> set[str]:
        found = [labels for name, labels in metrics.values if name == "flashgrab_grabs"]
        assert {outcome for _, outcome in found} <= {outcome.name for outcome in BEGUN}
        return {campaign_id for campaign_id, _ in found}

    await catalogue._refresh_all()
    assert begun() == {"c"}
    metrics.add("flashgrab_grabs", ("c", "GRANTED"), 5)
    store.at_ms = BEGUN_MS + 5000
    store.readings |= {f"over{n}": state(campaign_id=f"over{n}") for n in range(3)}
    await catalogue._refresh_all()
    assert begun() == {"c", "far"}
    assert metrics.values["flashgrab_grabs", ("c", "GRANTED")] == 5
    many = {f"n{n}": _from(2 * BEGUN_MS, f"n{n}") for n in range(2 * BEGUN_MAX)}
    store.readings |= many
    await catalogue._refresh_all()
    assert len(begun() - {"c"}) == BEGUN_MAX


def _from(opens_at: int, campaign_id: str) -> CampaignState:
    rounds = (RoundState(1, opens_at, opens_at + 1000, 5, 5, 0, 0),)
    return state(campaign_id=campaign_id, rounds=rounds)


async def test_a_swallowed_cancellation_does_not_keep_the_process_alive() -> None:
    """A reading that loses one cancellation (asyncio.wait_for does, up to Python 3.11) is
    cancelled again: the catalogue stops."""
    swallowed = 0

    class Swallows(ToldStore):
        async def read(self, campaign_id: str) -> CampaignState | None:
            nonlocal swallowed
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
                if swallowed > 1:
                    raise
            return None

    store = Swallows({"a": None})
    catalogue = Catalogue(store, Metrics())
    catalogue.start()
    await until("it reads", lambda: store.registries)
    async with asyncio.timeout(5):
        await catalogue.stop()
    assert swallowed == 1


# -- against the real Redis ------------------------------------------------------------------------


async def _took_ms(what: str, met: Any) -> float:
    started = time.perf_counter()
    await until(what, met)
    return (time.perf_counter() - started) * 1000


async def _restock(served: Served, campaign_id: str, quota: int, version: int) -> None:
    code = await served.store.apply(
        campaign_id,
        epoch=1,
        version=version,
        operation=f"op-{version}",
        status="PUBLISHED",
        quotas=[quota],
    )
    assert code == 0


async def test_only_what_changed_is_read(served: Served, redis_server: Valkey) -> None:
    """A turn reads what differs from the turn before; what is not whole, until it is; and what
    ended a while ago only now and then."""
    minute = 60_000
    grabbed, idle, broken = [await served.campaign(quota=9) for _ in range(3)]
    over = await served.campaign(rounds=[(-9 * minute, -2 * minute, 9)])
    await served.store._redis.rename(keys.round_(broken, 1), "away")
    ours = {grabbed, idle, broken, over}
    read: list[str] = []

    class Counts(Store):
        async def read(self, campaign_id: str) -> CampaignState | None:
            read.append(campaign_id)
            return await super().read(campaign_id)

    async with Counts(redis_server.url) as store:
        catalogue = Catalogue(store, Metrics())

        async def turn() -> set[str]:
            read.clear()
            await catalogue._refresh_all()
            return ours & set(read)

        assert await turn() == ours
        assert await turn() == {broken}
        await served.grab(grabbed)
        assert await turn() == {broken, grabbed}
        await served.store._redis.rename("away", keys.round_(broken, 1))
        await served.store._redis.hset(keys.campaign(over), "generation", 2)
        assert await turn() == {broken}
        assert await turn() == set()
        seen = [await turn() for _ in range(ENDED_TURNS)]
        assert [ids for ids in seen if ids] == [{over}]


async def test_what_is_over_is_not_told_each_time(served: Served) -> None:
    """`lefts` is walked ten times a second: it leaves out what ended over a minute ago, but tells
    what changes there, until the next look at all campaigns."""
    over, on = await served.campaign(rounds=[(-200_000, -100_000, 3)]), await served.campaign()

    def told() -> dict[str, int]:
        return {campaign_id: left for campaign_id, _, left in served.gateway.catalogue.lefts()}

    assert told()[over] == 3
    await until("it is left out", lambda: over not in told())
    assert told()[on] == 10
    await served.set(over, {"left": 4}, round_=1)  # one was given back
    assert told()[over] == 4
    await until("it is left out again", lambda: over not in told())


async def test_a_restock_reopens_by_the_push(served: Served) -> None:
    """After a restock and its push, the gateway knows within 100 ms, and the next grab wins."""
    campaign_id = await served.campaign(quota=1)
    await served.grab(campaign_id, "first")
    assert (await served.grab(campaign_id, "second", key="k")).json()["code"] == "SOLD_OUT"
    campaign = served.known(campaign_id)
    assert campaign.status(served.gateway.redis_clock.now_ms()) == "SOLD_OUT"
    await _restock(served, campaign_id, 2, 2)
    await served.store.announce(campaign_id)
    assert await _took_ms("left is 1", lambda: campaign.left == [1]) < PUSH_MS
    answer = await served.grab(campaign_id, "second", key="k")
    assert (answer.status_code, answer.json()["serial"]) == (201, 2)


async def test_a_restock_reopens_without_the_push(served: Served) -> None:
    """Where the push is lost, the refresh brings it within a second."""
    campaign_id = await served.campaign(quota=1)
    await served.grab(campaign_id, "first")
    campaign = served.known(campaign_id)
    for version in (2, 3, 4):
        await _restock(served, campaign_id, version, version)
        left = [version - 1]
        assert await _took_ms("restocked", lambda left=left: campaign.left == left) < REFRESH_MS


async def test_a_pause_and_a_resume_are_seen_by_the_push(served: Served) -> None:
    """Public status follows pause, resume and close within 100 ms."""
    campaign_id = await served.campaign()
    campaign, clock = served.known(campaign_id), served.gateway.redis_clock
    wanted = [("PAUSED", "PAUSED"), ("PUBLISHED", "CLAIMABLE"), ("OFFLINE", "OFFLINE")]
    for version, (status, shown) in enumerate(wanted, 2):
        await served.store.apply(
            campaign_id, epoch=1, version=version, operation="op", status=status, quotas=[10]
        )
        await served.store.announce(campaign_id)
        took_ms = await _took_ms(
            shown, lambda shown=shown: campaign.status(clock.now_ms()) == shown
        )
        assert took_ms < PUSH_MS


async def test_a_new_campaign_is_known_by_the_push(served: Served) -> None:
    """A campaign published elsewhere can be grabbed 100 ms later."""
    template = await served.campaign()
    origin = served.known(template).state
    assert origin is not None
    name = template + "-new"
    await served.store.publish(
        name, run=origin.run, version=1, operation="op", definition=origin.definition,
        per_user=1, per_device=0, rounds=[Round(1, 0, 1, 1)],
    )  # fmt: skip
    assert (await served.grab(name)).json()["code"] == "CAMPAIGN_NOT_FOUND"
    await served.store.register(name)
    took_ms = await _took_ms("known", lambda: served.gateway.catalogue.get(name))
    assert took_ms < PUSH_MS


async def test_an_unknown_campaign_costs_no_redis_command(served: Served) -> None:
    """Grabs, passes and readings of campaigns that nobody knows are refused from memory, and
    leave nothing behind there."""
    names = [f"nobody-{n}" for n in range(5)]
    before = len(list(served.gateway.catalogue))
    token = served.gateway.identity.mint("u1")[0]
    redis = served.store._redis
    async with redis.monitor() as monitor:
        for name in names:
            grab = await served.grab(name)
            shown = await served.http.get(f"/v1/campaigns/{name}")
            bearer = {"authorization": f"Bearer {token}"}
            issued = await served.http.post(f"/v1/campaigns/{name}/passes", headers=bearer)
            held = await served.http.get(f"/v1/grabs/{name}-1", headers=bearer)
            codes = [answer.json()["code"] for answer in (grab, shown, issued, held)]
            assert codes == ["CAMPAIGN_NOT_FOUND"] * 3 + ["GRAB_NOT_FOUND"]
        await redis.echo("nobody-is-the-last")
        async for said in monitor.listen():  # other commands are the refresh, all the time
            if "nobody" in said["command"]:
                assert "nobody-is-the-last" in said["command"]
                break
    assert len(list(served.gateway.catalogue)) == before
    assert not set(names) & set(served.gateway.batchers)
    labels = {labels for _, labels in served.metrics.values}
    assert not any(name in label for label in labels for name in names)


async def test_a_missing_key_refuses_at_once(served: Served) -> None:
    """A registered campaign whose key is gone answers NOT_WARMED, never 'stock 0', and goes on
    when the key is there again."""
    campaign_id = await served.campaign()
    first = await served.grab(campaign_id, key="k")
    name = keys.campaign(campaign_id)
    await served.store._redis.rename(name, name + ":away")
    lost = await served.grab(campaign_id, "second", key="k")  # the script finds it missing
    await until("noticed", lambda: served.known(campaign_id).missing)
    again = await served.grab(campaign_id, key="k")
    shown = await served.http.get(
        f"/v1/grabs/{campaign_id}-9",
        headers={"authorization": f"Bearer {served.token(campaign_id, 'u1')}"},
    )
    for answer in (lost, again, shown):
        assert (answer.status_code, answer.json()["code"]) == (503, "NOT_WARMED")
        assert "retry-after" in answer.headers
    await served.store._redis.rename(name + ":away", name)
    await until("back", lambda: not served.known(campaign_id).missing)
    replay = await served.grab(campaign_id, key="k")
    assert replay.json() == {**first.json(), "replayed": True}


async def test_a_new_epoch_is_followed(served: Served) -> None:
    """After a rebuild the old epoch is refused until the gateway has read the new one."""
    campaign_id = await served.campaign()
    assert (await served.grab(campaign_id, "u1", key="k")).status_code == 201
    name = keys.campaign(campaign_id)
    await served.store._redis.hset(name, mapping={"epoch": 2, "seq": 1000, "serial": 1000})
    assert (await served.grab(campaign_id, "u2", key="k")).json()["code"] == "NOT_WARMED"
    await served.store.announce(campaign_id)
    await until("the new epoch", lambda: served.known(campaign_id).floor == 1000)
    assert (await served.grab(campaign_id, "u2", key="k")).json()["serial"] == 1001
    assert (await served.grab(campaign_id, "u1", key="k")).status_code == 200


async def test_rounds_open_and_close_by_the_clock_of_redis(served: Served) -> None:
    """A stream of grabs over two openings: by Redis' clock no grant lies outside a round, each
    opening is used, and every refusal is the one of its moment."""
    rounds = [(1500, 2500, 10_000), (2650, HOUR_MS, 10_000)]
    campaign_id = await served.campaign(per_user=10_000, rounds=rounds)
    campaign = served.known(campaign_id)
    assert campaign.state is not None
    first, second = campaign.state.rounds
    answers: list[Any] = []

    async def stream(user: str) -> None:
        while not answers or answers[-1][1] < second.opens_at + 100:
            answer = await served.grab(campaign_id, user)
            answers.append((answer, served.gateway.redis_clock.now_ms()))

    await asyncio.gather(*(stream(f"u{n}") for n in range(4)))
    entries = await served.store.outbox(campaign_id, 1, entries_max=100_000)
    times = [
        (fact.at_ms, fact.round)
        for entry in entries
        if isinstance(entry, OutboxEntry)
        for fact in entry.facts(campaign_id)
    ]
    assert len(times) == sum(answer.status_code == 201 for answer, _ in answers)
    for at_ms, number in times:
        round_ = campaign.state.rounds[number - 1]
        assert round_.opens_at <= at_ms < round_.closes_at
    assert {number for _, number in times} == {first.number, second.number}
    refused = [answer.json() for answer, _ in answers if answer.status_code != 201]
    assert {body["code"] for body in refused} == {"NOT_STARTED"}
    assert len({body["opens_at"] for body in refused}) == 2
    assert all(body["retry_after_ms"] <= 1500 for body in refused)
