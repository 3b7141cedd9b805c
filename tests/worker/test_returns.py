"""Returns on the whole way, and what both audits say of them."""

from collections.abc import Awaitable, Callable

import pytest

from flashgrab import keys
from tests.worker.line import Line, crash_at, until
from worker.damage import INVARIANTS
from worker.steps import Step

pytestmark = pytest.mark.anyio


async def back(line: Line, count: int) -> None:
    """Wait until the ledger has so many returns."""

    async def there() -> bool:
        rows = await line.sql("SELECT count(returned_seq) AS n FROM coupons")
        return bool(rows[0]["n"] >= count)

    await until(there)


async def sold(line: Line) -> None:
    """Twenty coupons, on a device each, all in the ledger and none in the outbox."""
    await line.publish("c1", 20, per_device=1)
    await line.grant("c1", 20)
    await line.book("c1")


async def assert_green(line: Line) -> None:
    """The full audit and the live one find nothing."""
    report = await line.audit()
    assert report.ok, report
    await line.live_audit().step()
    seen = {i: line.metrics.values["flashgrab_invariant_ok", ("c1", i)] for i in INVARIANTS}
    assert set(seen.values()) == {1}, seen


async def test_the_books_balance_at_every_step_of_a_return(line: Line) -> None:
    """While it waits in the outbox, with a new grant behind it, in Kafka, and in the ledger."""
    await sold(line)
    live = line.live_audit()
    await live.step()
    await line.give_back("c1", 3, 4, 5)
    await assert_green(line)
    again = [(f"u{n}", f"d{n}", "again") for n in (2, 3)]
    assert (await line.grab("c1", again))[7:] == [21, 22]
    await assert_green(line)
    await live.step()
    async with line.running(line.relay(), line.persist()):
        await back(line, 3)
        await line.persisted("c1", 22)
    await assert_green(line)
    await line.deliver("c1", 22)
    await line.settled("c1", 25)
    await assert_green(line)
    await live.step()
    assert {line.metrics.values["flashgrab_invariant_ok", ("c1", i)] for i in INVARIANTS} == {1}
    report = (await line.audit("c1")).campaigns[0]
    assert (report.quota, report.left, report.granted, report.returned) == (20, 1, 22, 3)
    assert (report.persisted, report.watermark, report.outbox) == (22, 25, 0)


@pytest.mark.parametrize("step", ["written", "committed"])
async def test_a_crash_loses_and_doubles_no_return(line: Line, step: Step) -> None:
    """A worker that dies around its commit is followed by one that writes each return once."""
    await sold(line)
    await line.give_back("c1", *range(1, 11))
    async with line.running(line.relay()):
        await line.run_to_crash(line.persist(crash_at(step), records_max=3))
        async with line.running(line.persist(records_max=3), line.walker()):
            await back(line, 10)
            await line.settled("c1", 30)
    counted = await line.sql("SELECT granted, returned FROM rounds")
    assert [tuple(row) for row in counted] == [(20, 10)]
    await assert_green(line)


Damage = Callable[[Line], Awaitable[object]]


def in_ledger(query: str) -> Damage:
    return lambda line: line.sql(query)


def in_redis(key: str, **fields: str | int) -> Damage:
    async def change(line: Line) -> None:
        for name, value in fields.items():
            await line.store._redis.hset(key, name, str(value))

    return change


DAMAGES: dict[str, tuple[str, Damage]] = {
    "the ledger has lost it": (
        "RETURN_DIFFERS",
        in_ledger("UPDATE coupons SET returned_seq = NULL WHERE serial = 3"),
    ),
    "the ledger has another's": (
        "RETURN_DIFFERS",
        in_ledger(
            "UPDATE coupons SET returned_seq = CASE serial WHEN 3 THEN NULL ELSE 21 END"
            " WHERE serial IN (3, 9)"
        ),
    ),
    "the holder has it still": (
        "RETURN_DIFFERS",
        in_redis(keys.holders("c1"), u2="3,3,1,g,k2;"),
    ),
    "the seq twice": ("DOUBLE", in_ledger("UPDATE coupons SET returned_seq = 3 WHERE serial = 4")),
    "the round's count": ("ROWS_MISCOUNTED", in_ledger("UPDATE rounds SET returned = 1")),
    "not counted in Redis": (
        "COUNTER_OFF",
        in_redis(keys.round_("c1", 1), returned=1, left=1),
    ),
    "left not grown": ("LEFT_OFF", in_redis(keys.round_("c1", 1), left=0)),
    "two held at once": (
        "USER_LIMIT",
        in_ledger("UPDATE coupons SET user_id = 'u7', device_id = 'd7' WHERE serial = 9"),
    ),
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_around_returns_is_named(line: Line, what: str) -> None:
    """Each thing that can be wrong with two returns in the ledger, by the full audit."""
    await sold(line)
    await line.give_back("c1", 3, 4)
    for seq, serial in ((21, 3), (22, 4)):
        await line.sql("UPDATE coupons SET returned_seq = $1 WHERE serial = $2", seq, serial)
    await line.sql("UPDATE rounds SET returned = 2")
    await line.sql("UPDATE watermarks SET watermark = 22")
    assert await line.store.settle("c1", 1, 22, "") == 0
    await assert_green(line)
    damage, make = DAMAGES[what]
    await make(line)
    report = await line.audit("c1")
    assert damage in {f.damage_name for f in report.campaigns[0].findings}, report


async def test_a_dead_return_is_accounted_for(line: Line) -> None:
    """A return that cannot be stored keeps I5 red, and the watermark passes it."""
    await sold(line)
    await line.give_back("c1", 3)
    await line.sql("UPDATE coupons SET state = 'USED' WHERE serial = 3")
    async with line.running(line.relay(), line.persist(), line.walker()):
        await line.settled("c1", 21)
    assert await line.dead() == [("CONFLICT", "c1", 21)]
    report = (await line.audit("c1")).campaigns[0]
    assert {f.damage.value.invariant for f in report.findings} == {"I5"}
