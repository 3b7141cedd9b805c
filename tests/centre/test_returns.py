"""A return: the ledger first, then Redis, once, through crashes and whatever Redis has become."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from centre import returns
from centre.apply import Applier
from centre.returns import BUSY, EPOCH, FLOOR, MISSING, RUN, WHY
from flashgrab import keys
from flashgrab.events import OutboxEntry
from flashgrab.ids import grab_id
from flashgrab.ledger.returns import ask
from tests.centre.granting import OPEN, grab, granted
from tests.centre.serving import NOW_MS, Served, Sides, operation, until
from tests.centre.test_apply import Crash, CrashAt
from tests.centre.test_rebuild import outbox, rebuild, write
from tests.centre.test_routes import body_of, refused

pytestmark = pytest.mark.anyio

STEPS = ("before return", "returned", "noted")


async def on_sale(sides: Sides, *users: str, **fields: Any) -> str:
    """A campaign in both sides in which these users hold a coupon each."""
    campaign_id = await sides.published(**{"rounds": [OPEN], "per_device": 1, **fields})
    await Applier(sides.pool, sides.store).catch_up()
    await granted(sides.store, sides.pool, campaign_id, *users)
    return campaign_id


async def ask_for(sides: Sides, campaign_id: str, *serials: int) -> None:
    for serial in serials:
        await ask(sides.pool, NOW_MS, operation(), campaign_id, serial)


async def facts_of(sides: Sides, campaign_id: str) -> list[tuple[int, str]]:
    """Seq and line of every fact in the outbox."""
    found = []
    for entry in await sides.store.outbox(campaign_id, 0, entries_max=1000):
        assert isinstance(entry, OutboxEntry)
        found += list(enumerate(entry.lines.split(";"), entry.first_seq))
    return found


async def waits(sides: Sides) -> list[tuple[int, int | None]]:
    """Serial and epoch of what is not done in the ledger."""
    rows = await sides.rows("SELECT serial, epoch FROM returns WHERE done_ms IS NULL")
    return sorted((row["serial"], row["epoch"]) for row in rows)


async def test_a_return_is_in_both_sides(sides: Sides) -> None:
    """The ledger has its state, Redis the fact, the stock, the freed device and the mark."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await ask_for(sides, campaign_id, 1)
    await Applier(sides.pool, sides.store).catch_up()
    state = await sides.store.read(campaign_id)
    assert state is not None
    assert (state.serial, state.seq, state.generation) == (2, 3, 2)
    row = state.rounds[0]
    assert (row.quota, row.left, row.granted, row.returned) == (10, 9, 2, 1)
    assert (await facts_of(sides, campaign_id))[2:] == [(3, "r,1,1,ann,d-ann,k")]
    assert await sides.store.holder(campaign_id, "ann") == "1,1,1,r,k;"
    assert [d async for d in sides.store.device_ids(campaign_id)] == ["d-bob"]
    states = await sides.rows("SELECT serial, state, returned_seq FROM coupons ORDER BY serial")
    assert [tuple(row.values()) for row in states] == [(1, "RETURNED", None), (2, "UNUSED", None)]


async def test_who_returned_may_grab_again(sides: Sides) -> None:
    """With a new key he gets another coupon; the old key replays the returned one."""
    campaign_id = await on_sale(sides, "ann")
    await ask_for(sides, campaign_id, 1)
    await Applier(sides.pool, sides.store).catch_up()
    asked = [("ann", "d-ann", key) for key in ("k", "k2", "k3", "k")]
    replayed = "R1,1,1,r,k;"
    answers = await grab(sides.store, campaign_id, asked)
    assert answers == [replayed, 2, "U1,1,1,r,k;2,3,1,g,k2;", replayed]


async def test_a_round_that_is_over_gets_its_own_back(sides: Sides) -> None:
    """The coupon goes to the round that granted it, where nobody can get it any more."""
    campaign_id = await on_sale(
        sides,
        "ann",
        rounds=[OPEN, {**OPEN, "opens_at": "2099-01-01T00:00:00Z", "closes_at": "+1h"}],
    )
    key = keys.round_(campaign_id, 1)
    await sides.store._redis.hset(key, "closes_at", 1)
    await ask_for(sides, campaign_id, 1)
    await Applier(sides.pool, sides.store).catch_up()
    state = await sides.store.read(campaign_id)
    assert state is not None
    assert [(r.left, r.granted, r.returned) for r in state.rounds] == [(10, 1, 1), (10, 0, 0)]


@pytest.mark.parametrize("step", STEPS)
async def test_a_crash_at_any_step_is_only_a_delay(sides: Sides, step: str) -> None:
    """A process that ends at any step of a return is followed by one that completes it once."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await ask_for(sides, campaign_id, 1, 2)
    crash = CrashAt(step)
    with pytest.raises(Crash):
        await Applier(sides.pool, sides.store, reached=crash).catch_up()
    assert crash.fired
    await Applier(sides.pool, sides.store).catch_up()
    lines = [line for _, line in await facts_of(sides, campaign_id)]
    assert sorted(lines[2:]) == ["r,1,1,ann,d-ann,k", "r,2,1,bob,d-bob,k"]
    assert await waits(sides) == [(1, 1), (2, 1)]


async def test_two_centres_at_once(sides: Sides) -> None:
    """Two loops over the same returns make one fact of each."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await ask_for(sides, campaign_id, 1, 2)
    await asyncio.gather(*(Applier(sides.pool, sides.store).catch_up() for _ in range(2)))
    assert len(await facts_of(sides, campaign_id)) == 4


async def test_many_go_page_by_page(sides: Sides, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one page holds are all brought in one round of the loop."""
    monkeypatch.setattr(returns, "PAGE", 3)
    campaign_id = await on_sale(sides, *(f"u{n}" for n in range(8)))
    await ask_for(sides, campaign_id, *range(1, 9))
    await Applier(sides.pool, sides.store).catch_up()
    assert len(await facts_of(sides, campaign_id)) == 16


Change = Callable[[Sides, str], Awaitable[Any]]


async def lost(sides: Sides, campaign_id: str) -> None:
    await sides.store._redis.rename(keys.campaign(campaign_id), "elsewhere")


async def found(sides: Sides, campaign_id: str) -> None:
    await sides.store._redis.rename("elsewhere", keys.campaign(campaign_id))


def set_(field: str, value: str) -> Change:
    async def change(sides: Sides, campaign_id: str) -> None:
        await sides.store._redis.hset(keys.campaign(campaign_id), field, value)

    return change


async def confirmed(sides: Sides, campaign_id: str) -> None:
    run = await sides.store.run_id()
    assert await sides.store.confirm(campaign_id, 1, 2, run) == 0


async def ahead(sides: Sides, campaign_id: str) -> None:
    await sides.rows(
        "UPDATE coupons SET seq = 50 WHERE campaign_id = $1 AND serial = 2", campaign_id
    )


async def level(sides: Sides, campaign_id: str) -> None:
    await sides.rows(
        "UPDATE coupons SET seq = 2 WHERE campaign_id = $1 AND serial = 2", campaign_id
    )


@pytest.mark.parametrize(
    "code,before,after",
    [
        (MISSING, lost, found),
        (EPOCH, set_("epoch", "2"), set_("epoch", "1")),
        (RUN, set_("run", "another"), confirmed),
        (FLOOR, ahead, level),
        (BUSY, set_("outbox_max", "2"), set_("outbox_max", "9")),
    ],
)
async def test_what_redis_cannot_take_now_waits(
    sides: Sides, code: int, before: Change, after: Change
) -> None:
    """Nothing changes in Redis, the centre says why, others go on; later it is applied, once."""
    stuck, fine = await on_sale(sides, "ann", "bob"), await on_sale(sides, "ann", "bob")
    await sides.store._redis.hset(keys.campaign(fine), "outbox_max", 9)
    await before(sides, stuck)
    books = await facts_of(sides, stuck)
    await ask_for(sides, stuck, 1, 2)
    await ask_for(sides, fine, 1)
    loop = Applier(sides.pool, sides.store)
    for _ in range(2):
        await loop.catch_up()
        assert loop.returner.troubles == {stuck: WHY[code]}
        assert await facts_of(sides, stuck) == books
    assert len(await facts_of(sides, fine)) == 3
    await after(sides, stuck)
    await loop.catch_up()
    assert loop.returner.troubles == {}
    assert len(await facts_of(sides, stuck)) == 4


async def test_a_grant_that_redis_does_not_know_keeps_no_other_waiting(sides: Sides) -> None:
    """It is named, and the returns after it are applied."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await sides.store._redis.hdel(keys.holders(campaign_id), "ann")
    await ask_for(sides, campaign_id, 1, 2)
    loop = Applier(sides.pool, sides.store)
    await loop.catch_up()
    assert loop.returner.troubles == {campaign_id: "Redis does not know the grant (serial 1)"}
    assert (await facts_of(sides, campaign_id))[2:] == [(3, "r,2,1,bob,d-bob,k")]


async def test_another_run_is_asked_until_the_ledger_has_the_fact(sides: Sides) -> None:
    """Redis may have come back without it; once the fact is in the ledger it is never asked."""
    campaign_id = await on_sale(sides, "ann")
    await ask_for(sides, campaign_id, 1)
    loop = Applier(sides.pool, sides.store)
    await loop.catch_up()
    await sides.rows("UPDATE returns SET run = 'another'")
    before = await sides.store.read(campaign_id)
    await loop.catch_up()
    assert await sides.store.read(campaign_id) == before
    assert [row["run"] for row in await sides.rows("SELECT run FROM returns")] == [
        await sides.store.run_id()
    ]
    await sides.rows("UPDATE coupons SET returned_seq = 2")
    await sides.rows("UPDATE returns SET run = 'another'")
    await loop.catch_up()
    assert await waits(sides) == []


async def test_another_epoch_without_the_fact_gets_it_again(sides: Sides) -> None:
    """A rebuild from a ledger that did not have the fact yet seeds a grant; it comes back anew."""
    campaign_id = await on_sale(sides, "ann")
    await ask_for(sides, campaign_id, 1)
    loop = Applier(sides.pool, sides.store)
    await loop.catch_up()
    await sides.rows("UPDATE campaigns SET epoch = 2")
    await sides.store._redis.hset(keys.campaign(campaign_id), "epoch", 2)
    await sides.store._redis.hset(keys.holders(campaign_id), "ann", "1,1,1,g,k;")
    await loop.catch_up()
    assert (await facts_of(sides, campaign_id))[2:] == [(3, "r,1,1,ann,d-ann,k")]
    assert await waits(sides) == [(1, 2)]


# -- over HTTP -----------------------------------------------------------------------------------


async def sold(served: Served, *users: str) -> str:
    campaign_id = await served.created(publish=True, rounds=[OPEN])
    await granted(served.centre.store, served.centre.pool, campaign_id, *users)
    return campaign_id


def path(campaign_id: str, serial: int) -> str:
    return f"/v1/grabs/{grab_id(campaign_id, serial)}/return"


async def test_a_return_over_http(served: Served) -> None:
    """200 once Redis has it; the same key again answers the same, another key is refused."""
    campaign_id = await sold(served, "ann")
    key = operation()
    first = await served.post(path(campaign_id, 1), key=key)
    body = body_of(first, "Returned")
    assert body == {
        "grab_id": f"{campaign_id}-1",
        "campaign_id": campaign_id,
        "serial": 1,
        "round": 1,
        "action": "return",
        "operation": key,
        "state": "RETURNED",
        "version": 2,
        "repeated": False,
        "applied": True,
    }
    again = await served.post(path(campaign_id, 1), key=key)
    assert (again.status_code, again.json()) == (200, body | {"repeated": True})
    detail = f"coupon {campaign_id}-1 was returned before"
    await refused(await served.post(path(campaign_id, 1)), "ALREADY_RETURNED", detail)
    state = await served.centre.store.read(campaign_id)
    assert state is not None
    assert (state.seq, state.rounds[0].left) == (2, 10)


@pytest.mark.parametrize("state", ["LOCKED", "USED", "EXPIRED"])
async def test_only_an_unused_coupon_comes_back(served: Served, state: str) -> None:
    """A coupon in any other state is left as it is."""
    campaign_id = await sold(served, "ann")
    async with served.centre.pool.connection() as connection:
        await connection.execute(
            "UPDATE coupons SET state = $2 WHERE campaign_id = $1", campaign_id, state
        )
    detail = f"coupon {campaign_id}-1 is {state}; only an UNUSED one can be returned"
    await refused(await served.post(path(campaign_id, 1)), "NOT_RETURNABLE", detail)
    assert (await served.centre.store.holder(campaign_id, "ann")) == "1,1,1,g,k;"


async def test_what_the_ledger_does_not_have_is_not_found(served: Served) -> None:
    """No such form, no such campaign, no such serial, and one that is not persisted yet."""
    campaign_id = await sold(served, "ann")
    await grab(served.centre.store, campaign_id, [("bob", "d", "k")])
    for name in (f"{campaign_id}-0", "nobody", "A-1", f"{campaign_id}-x"):
        answer = await served.post(f"/v1/grabs/{name}/return")
        await refused(answer, "GRAB_NOT_FOUND", "there is no such grab")
    for name in ("nowhere-1", f"{campaign_id}-2", f"{campaign_id}-77"):
        answer = await served.post(f"/v1/grabs/{name}/return")
        detail = f"the ledger has no coupon {name}; one granted just now gets there in seconds"
        await refused(answer, "GRAB_NOT_FOUND", detail)


async def test_a_key_is_for_one_return(served: Served) -> None:
    """The key of one return is refused for another coupon, and without any key nothing happens."""
    campaign_id = await sold(served, "ann", "bob")
    key = operation()
    assert (await served.post(path(campaign_id, 1), key=key)).status_code == 200
    answer = await served.post(path(campaign_id, 2), key=key)
    assert answer.json()["code"] == "IDEMPOTENCY_KEY_REUSED"
    assert (await served.http.post(path(campaign_id, 2))).status_code == 400
    assert (await served.post(path(campaign_id, 2), {"why": "so"})).status_code == 400
    assert await served.centre.store.holder(campaign_id, "bob") == "2,2,1,g,k;"


async def test_committed_but_not_in_redis(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says that Redis does not have it yet, and why; it comes by itself."""
    monkeypatch.setattr("centre.routes.APPLY_MS_MAX", 300)
    campaign_id = await sold(served, "ann")
    redis = served.centre.store._redis
    run = await served.centre.store.run_id()
    await redis.hset(keys.campaign(campaign_id), "run", "another")
    body = body_of(await served.post(path(campaign_id, 1)), "Returned")
    assert (body["applied"], body["trouble"]) == (False, WHY[RUN])
    await redis.hset(keys.campaign(campaign_id), "run", run)

    async def is_back() -> bool:
        return await served.centre.store.holder(campaign_id, "ann") == "1,1,1,r,k;"

    await until(is_back)


async def test_a_race_for_one_coupon_has_one_winner(served: Served) -> None:
    """Of several returns at once with keys of their own one is done, the others are refused."""
    campaign_id = await sold(served, "ann")
    answers = await asyncio.gather(*(served.post(path(campaign_id, 1)) for _ in range(6)))
    assert sorted(a.status_code for a in answers) == [200, 409, 409, 409, 409, 409]


# -- and a rebuild -------------------------------------------------------------------------------


async def redis_of(sides: Sides, campaign_id: str) -> tuple[int, int, int, int]:
    """Epoch, left, granted and returned of the one round."""
    state = await sides.store.read(campaign_id)
    assert state is not None
    row = state.rounds[0]
    return state.epoch, row.left, row.granted, row.returned


async def test_a_return_that_redis_lost_comes_back_in_the_next_epoch(sides: Sides) -> None:
    """Redis took it and lost its data before the ledger had the fact: the rebuild seeds a coupon
    that is held, then it is returned anew; the late record of the first time is a dead letter."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await ask_for(sides, campaign_id, 1)
    loop = Applier(sides.pool, sides.store)
    await loop.catch_up()
    late = (await outbox(sides, campaign_id))[2:]
    assert [fact.event for fact in late] == ["grab.returned"]
    await sides.store._redis.flushall()
    last = await rebuild(sides, campaign_id)
    assert await redis_of(sides, campaign_id) == (2, 8, 2, 0)
    await loop.catch_up()
    assert loop.returner.troubles == {}
    assert await redis_of(sides, campaign_id) == (2, 9, 2, 1)
    assert last.start is not None
    assert await facts_of(sides, campaign_id) == [(last.start + 1, "r,1,1,ann,d-ann,k")]
    found = await outbox(sides, campaign_id)
    written = await write(sides, [*late, *found, *found])
    assert (written.returns, written.dead) == (1, {"CLOSED_EPOCH": 1})
    await loop.catch_up()
    assert await waits(sides) == []


async def test_a_return_that_waits_in_the_old_outbox_is_taken_over(sides: Sides) -> None:
    """A rebuild beside a Redis that still has it seeds it returned; nobody asks for it again."""
    campaign_id = await on_sale(sides, "ann", "bob")
    await ask_for(sides, campaign_id, 1)
    loop = Applier(sides.pool, sides.store)
    await loop.catch_up()
    last = await rebuild(sides, campaign_id)
    assert (last.cut, await redis_of(sides, campaign_id)) == (3, (2, 9, 2, 1))
    assert await sides.store.holder(campaign_id, "ann") == "1,1,1,r,k;"
    await loop.catch_up()
    assert await facts_of(sides, campaign_id) == []
    assert await waits(sides) == []
