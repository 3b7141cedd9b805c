"""A campaign's Redis side built anew from the ledger: whole, in one moment, through crashes."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from centre.apply import Applier
from centre.rebuild import Rebuilder
from flashgrab import events, keys, scripts
from flashgrab.errors import OperationRefused
from flashgrab.events import Fact, OutboxEntry
from flashgrab.ledger import campaigns, facts, progress, rebuilds, returns
from flashgrab.ledger.facts import Grant, Written
from flashgrab.ledger.operations import Change
from flashgrab.ledger.rebuilds import Rebuild
from flashgrab.state import CampaignState, GatewayReport
from tests.centre.serving import Sides, operation
from tests.centre.test_apply import Crash, CrashAt

pytestmark = pytest.mark.anyio

OPEN = [{"opens_at": "2020-01-01T00:00:00Z", "closes_at": "2099-01-01T00:00:00Z", "quota": 50}]
STEPS = ("fenced", "drained", "taken", "cut", "staged", "ready", "switched", "rebuilt")
OUTBOX_MAX = 1000


def rebuilder(
    sides: Sides, reached: Callable[[str], None] = lambda _step: None, **more: Any
) -> Rebuilder:
    more = {"grace_ms": 0, "outbox_max": OUTBOX_MAX, **more}
    return Rebuilder(sides.pool, sides.store, None, sides.clock, reached, **more)


async def selling(sides: Sides, **fields: Any) -> str:
    """A campaign that is open, in Redis as well."""
    campaign_id = await sides.published(**({"rounds": OPEN} | fields))
    await Applier(sides.pool, sides.store).catch_up()
    return campaign_id


async def grab(sides: Sides, campaign_id: str, *users: str) -> list[int | str]:
    """Each user asks with the key k and his own device; the results, or the verdict alone."""
    state = await sides.store.read(campaign_id)
    assert state is not None
    touched = [f(campaign_id) for f in (keys.campaign, keys.holders, keys.devices, keys.outbox)]
    touched += [keys.round_(campaign_id, 1)] * 2
    ends = state.rounds[-1].closes_at
    args: list[Any] = [state.schema, state.epoch, await sides.store.run_id(), 0, 1, 0, ends]
    for user in users:
        args += (user, f"d-{user}", "k")
    reply = await sides.store.run(scripts.GRAB, touched, args)
    return list(reply[7:]) if reply[0] == 0 else [reply[0]]


async def outbox(sides: Sides, campaign_id: str) -> list[Fact]:
    entries = await sides.store.outbox(campaign_id, 0, entries_max=10_000)
    return [f for e in entries if isinstance(e, OutboxEntry) for f in e.facts(campaign_id)]


async def write(sides: Sides, found: Sequence[Fact], *, fresh: bool = False) -> Written:
    """What a worker does with facts from Kafka."""

    async def nothing() -> None:
        return

    grants = [Grant(fact, fact.user_id.encode(), events.encode(fact)) for fact in found]
    return await facts.write(
        sides.pool, keys.GRABS_TOPIC, [], grants, [], 1, fresh=fresh, on_sending=lambda: None,
        before_commit=nothing,
    )  # fmt: skip


async def rebuild(sides: Sides, campaign_id: str, by: Rebuilder | None = None) -> Rebuild:
    """From beginning to end."""
    change = Change("rebuild", without_kafka=True)
    await sides.operations.change(operation(), campaign_id, change)
    await (by or rebuilder(sides)).go_on()
    return await done(sides, campaign_id)


async def done(sides: Sides, campaign_id: str) -> Rebuild:
    """The last rebuild, which has come to its end."""
    last = await rebuilds.last(sides.pool, campaign_id)
    assert last is not None
    assert last.step == "DONE"
    return last


async def redis(sides: Sides, campaign_id: str) -> CampaignState:
    state = await sides.store.read(campaign_id)
    assert state is not None
    return state


async def dead(sides: Sides) -> list[tuple[str, int]]:
    rows = await sides.rows("SELECT reason, seq FROM dead ORDER BY seq")
    return [(row["reason"], row["seq"]) for row in rows]


async def assert_seeded(sides: Sides, campaign_id: str, start: int, held: int) -> None:
    """Redis holds what the ledger does, and nothing is staged any more."""
    state = await redis(sides, campaign_id)
    assert (state.seq, state.serial, state.watermark, state.holes) == (start, start, start, "")
    assert [(r.left, r.granted, r.returned) for r in state.rounds] == [(50 - held, held, 0)]
    rows = await sides.rows("SELECT * FROM coupons WHERE campaign_id = $1", campaign_id)
    wanted = {
        r["user_id"]: f"{r['serial']},{r['seq']},{r['round']},g,{r['request_id']};" for r in rows
    }
    assert {user: entry async for user, entry in sides.store.holders(campaign_id)} == wanted
    assert await outbox(sides, campaign_id) == []
    names = {str(key) for key in await sides.store._redis.keys("*:new*")}
    assert names == set()


async def test_data_that_are_gone(sides: Sides) -> None:
    """What the ledger has is back under the next epoch, what it has not is void, and new serials
    are beyond all that were ever given; a late record of a lost grant is nobody's coupon."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a", "b")
    known = await outbox(sides, campaign_id)
    await write(sides, known)
    assert await grab(sides, campaign_id, "lost") == [3]
    late = (await outbox(sides, campaign_id))[2:]
    await sides.store._redis.flushall()
    report = GatewayReport("r", 1, {campaign_id: 3})
    await sides.store.report_gateway("g", report)

    last = await rebuild(sides, campaign_id)
    start = 3 + OUTBOX_MAX
    assert (last.epoch, last.cut, last.start) == (2, 2, start)
    assert last.report is not None
    assert (last.report["lost_max"], last.report["lost_seen"]) == (48, 1)
    await assert_seeded(sides, campaign_id, start, held=2)
    assert await progress.highest_seq(sides.pool, campaign_id) == start
    assert campaign_id in await sides.store.registry()
    voids = await sides.rows("SELECT from_seq, to_seq, epoch FROM voids")
    assert voids == [{"from_seq": 3, "to_seq": start, "epoch": 2}]

    assert await grab(sides, campaign_id, "a", "lost") == ["R1,1,1,g,k;", start + 1]
    assert (await write(sides, [*known, *late])).dead == {"CLOSED_EPOCH": 1}
    assert (await write(sides, [*known, *late], fresh=True)).rows == 0
    assert await dead(sides) == [("CLOSED_EPOCH", 3)]
    assert (await write(sides, await outbox(sides, campaign_id))).rows == 1


async def test_a_campaign_that_is_sound_loses_nothing(sides: Sides) -> None:
    """The old outbox is taken over; every winner replays, and the report says that none is lost."""
    campaign_id = await selling(sides, per_device=1)
    users = [f"u{n}" for n in range(9)]
    assert await grab(sides, campaign_id, *users) == [*range(1, 10)]
    await write(sides, (await outbox(sides, campaign_id))[3:5])
    last = await rebuild(sides, campaign_id)
    assert last.report is not None
    assert (last.cut, last.report["taken_over"], last.report["lost_max"]) == (9, 7, 0)
    assert last.start is not None
    await assert_seeded(sides, campaign_id, last.start, held=9)
    devices = [device async for device in sides.store.device_ids(campaign_id)]
    assert sorted(devices) == [f"d-{user}" for user in users]
    answers = await grab(sides, campaign_id, *users)
    assert answers == [f"R{n},{n},1,g,k;" for n in range(1, 10)]
    assert (await redis(sides, campaign_id)).generation == 2


async def test_facts_that_are_missing_in_the_middle_are_void(sides: Sides) -> None:
    """A hole below the cut never becomes a coupon, and counts among what may be lost."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a", "b", "c")
    first, second, third = await outbox(sides, campaign_id)
    await write(sides, [first, third])
    await sides.store._redis.flushall()
    last = await rebuild(sides, campaign_id)
    assert last.cut == 3
    voids = await sides.rows("SELECT from_seq, to_seq FROM voids ORDER BY 1")
    assert voids == [{"from_seq": 2, "to_seq": 2}, {"from_seq": 4, "to_seq": last.start}]
    await write(sides, [second])
    assert await dead(sides) == [("CLOSED_EPOCH", 2)]
    assert await grab(sides, campaign_id, "b") == [(last.start or 0) + 1]


async def test_a_record_of_a_closed_epoch_may_differ_from_the_ledger(sides: Sides) -> None:
    """A serial of the old epoch that the ledger gave to somebody else is a conflict, as ever."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a")
    (fact,) = await outbox(sides, campaign_id)
    await rebuild(sides, campaign_id)
    other = Fact(**{name: getattr(fact, name) for name in fact.__struct_fields__} | {"seq": 7})
    await write(sides, [fact, other])
    assert await dead(sides) == [("CONFLICT", 7)]


@pytest.mark.parametrize("lost", [False, True], ids=["redis whole", "redis lost"])
@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_is_only_a_delay(sides: Sides, step: str, lost: bool) -> None:
    """A centre that ends between any two steps is followed by one that completes the rebuild; the
    campaign is closed until its new epoch is there."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a", "b")
    await write(sides, await outbox(sides, campaign_id))
    if lost:
        await sides.store._redis.flushall()
    crash = CrashAt(step)
    with pytest.raises(Crash):
        await rebuild(sides, campaign_id, rebuilder(sides, crash))
    assert crash.fired
    open_now = step in ("switched", "rebuilt")
    if await sides.store.read(campaign_id):
        assert await grab(sides, campaign_id, "a") == (["R1,1,1,g,k;"] if open_now else [3])
    await rebuilder(sides).go_on()
    last = await done(sides, campaign_id)
    assert last.start is not None
    await assert_seeded(sides, campaign_id, last.start, held=2)
    epoch = 3 if step == "ready" else 2  # then nobody knows whether epoch 2 was open
    assert (await redis(sides, campaign_id)).epoch == last.epoch == epoch
    assert await campaigns.behind(sides.pool) == []


async def test_data_lost_once_more_in_the_middle_of_the_switch(sides: Sides) -> None:
    """The new epoch was open for a moment, and is gone: what it granted is not granted again."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a")
    with pytest.raises(Crash):
        await rebuild(sides, campaign_id, rebuilder(sides, CrashAt("switched")))
    (given,) = await grab(sides, campaign_id, "b")
    await sides.store._redis.flushall()
    await rebuilder(sides).go_on()
    last = await done(sides, campaign_id)
    assert last.epoch == 3
    (again,) = await grab(sides, campaign_id, "c")
    assert int(again) > int(given)
    assert await grab(sides, campaign_id, "a") == ["R1,1,1,g,k;"]


async def test_what_was_staged_is_lost(sides: Sides) -> None:
    """A switch that finds less than was staged changes nothing; it is staged again."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a")

    class Loses(Exception):
        pass

    def stop(step: str) -> None:
        if step == "ready":
            raise Loses

    with pytest.raises(Loses):
        await rebuild(sides, campaign_id, rebuilder(sides, stop))
    (going,) = await rebuilds.going_on(sides.pool)
    await rebuilds.move(sides.pool, going, "SEED")
    await sides.store._redis.delete(keys.staged_holders(campaign_id))
    await rebuilder(sides).go_on()
    last = await done(sides, campaign_id)
    await assert_seeded(sides, campaign_id, last.start or 0, held=1)


async def test_changes_meanwhile_arrive_with_the_new_epoch(sides: Sides) -> None:
    """A pause and a restock during a rebuild wait for it; the status is the ledger's."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a")
    change = Change("rebuild", without_kafka=True)
    await sides.operations.change(operation(), campaign_id, change)
    for wanted in (Change("restock", 1, 5), Change("pause")):
        await sides.operations.change(operation(), campaign_id, wanted)
    applier = Applier(sides.pool, sides.store)
    await applier.catch_up()
    assert applier.troubles == {}
    assert (await redis(sides, campaign_id)).version == 2
    await rebuilder(sides).go_on()
    await applier.catch_up()
    assert applier.troubles == {}
    state = await redis(sides, campaign_id)
    assert (state.status, state.rounds[0].quota, state.rounds[0].left) == ("PAUSED", 55, 54)
    assert state.version == 5


async def test_one_at_a_time(sides: Sides) -> None:
    """A second rebuild is refused while one goes on, a repeat of the first is not; afterwards the
    next one opens the epoch after that."""
    campaign_id = await selling(sides)
    change = Change("rebuild", without_kafka=True)
    first = operation()
    await sides.operations.change(first, campaign_id, change)
    with pytest.raises(OperationRefused, match="is being rebuilt already"):
        await sides.operations.change(operation(), campaign_id, change)
    assert (await sides.operations.change(first, campaign_id, change)).repeated
    await rebuilder(sides).go_on()
    assert (await rebuild(sides, campaign_id)).epoch == 3


async def test_only_what_redis_has_had(sides: Sides) -> None:
    """A campaign that was never brought to Redis has nothing to rebuild."""
    campaign_id = await sides.published()
    with pytest.raises(OperationRefused, match="never in Redis"):
        await sides.operations.change(operation(), campaign_id, Change("rebuild"))


async def test_without_kafka_nobody_cuts(sides: Sides) -> None:
    """What only Kafka has is not given up silently: the rebuild waits, and says how to go on."""
    campaign_id = await selling(sides)
    await sides.operations.change(operation(), campaign_id, Change("rebuild"))
    by = rebuilder(sides)
    await by.go_on()
    assert "--without-kafka" in by.waits[campaign_id]
    assert await grab(sides, campaign_id, "a") == [3]
    change = Change("rebuild", without_kafka=True)
    await sides.operations.change(operation(), campaign_id, change)
    await by.go_on()
    await done(sides, campaign_id)


async def test_many_holders_come_in_pages(sides: Sides) -> None:
    """More holders and devices than one call takes, returned coupons among them."""
    count = 2500
    rounds = [OPEN[0] | {"quota": count}]
    campaign_id = await selling(sides, per_device=1, rounds=rounds)
    for first in range(0, count, 500):
        await grab(sides, campaign_id, *(f"u{n}" for n in range(first, first + 500)))
    await write(sides, await outbox(sides, campaign_id), fresh=True)
    await sides.rows("UPDATE coupons SET returned_seq = 2501 WHERE serial = 1")
    await rebuild(sides, campaign_id)
    assert await sides.store.holder_counts(campaign_id) == (count, count - 1)
    state = await redis(sides, campaign_id)
    assert [(r.left, r.granted, r.returned) for r in state.rounds] == [(1, count, 1)]
    assert await sides.store.holder(campaign_id, "u0") == "1,1,1,r,k;"


@pytest.mark.parametrize("lost", [False, True], ids=["outbox whole", "redis lost"])
async def test_a_return_on_its_way(sides: Sides, lost: bool) -> None:
    """A return whose fact is in the old outbox is taken over; one that Redis lost is made once
    more in the new epoch, and its first fact comes too late. Its coupon is free again once."""
    campaign_id = await selling(sides)
    await grab(sides, campaign_id, "a", "b")
    await write(sides, await outbox(sides, campaign_id))
    await returns.ask(sides.pool, 1, operation(), campaign_id, 1)
    applier = Applier(sides.pool, sides.store)
    await applier.catch_up()
    fact = (await outbox(sides, campaign_id))[-1]
    assert (fact.event, fact.seq) == ("grab.returned", 3)
    if lost:
        await sides.store._redis.flushall()
    await rebuild(sides, campaign_id)
    await applier.catch_up()
    (round_,) = (await redis(sides, campaign_id)).rounds
    assert (round_.left, round_.granted, round_.returned) == (49, 2, 1)
    assert await sides.store.holder(campaign_id, "a") == "1,1,1,r,k;"
    again = await outbox(sides, campaign_id)
    assert [(f.event, f.serial) for f in again] == ([("grab.returned", 1)] if lost else [])
    await write(sides, [fact, *again])
    assert await dead(sides) == ([("CLOSED_EPOCH", 3)] if lost else [])
    (row,) = await sides.rows("SELECT returned FROM rounds WHERE campaign_id = $1", campaign_id)
    assert row["returned"] == 1
