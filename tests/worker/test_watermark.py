"""How far the ledger has every fact, and what was lost on the way."""

from typing import Any

import pytest

from flashgrab import keys
from flashgrab.ledger import progress
from tests.worker.line import Crash, Line, crash_at, until
from worker.watermark import Watermark

pytestmark = pytest.mark.anyio


async def rows(line: Line, *seqs: int, campaign_id: str = "c1") -> None:
    """Rows with these seqs, each with a serial and a user of its own."""
    for seq in seqs:
        await line.sql(
            "INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round, request_id,"
            " epoch, granted_at) VALUES ($1, $2, $2, $3, '', 1, $4, 1, 1)",
            campaign_id,
            seq,
            f"u{seq}",
            f"k{seq}",
        )


async def given(line: Line, seq: int, valkey_client: Any) -> None:
    """Redis has given so many seqs."""
    valkey_client.hset(keys.campaign("c1"), mapping={"seq": seq, "serial": seq})


async def walk_through(mark: Watermark) -> None:
    """Whole steps as long as there are any, and the settlement of the last one."""
    while await mark.walk():
        pass
    await mark.walk()


async def test_it_stops_before_a_hole(line: Line, valkey_client: Any) -> None:
    """The watermark is the end of the prefix without a gap, in ledger and Redis."""
    await line.publish("c1")
    await given(line, 9, valkey_client)
    await rows(line, 1, 2, 3, 5, 6, 9)
    mark = line.mark()
    await walk_through(mark)
    assert await line.watermark("c1") == 3
    assert (await line.store.standings(["c1"]))["c1"].watermark == 3
    await rows(line, 4)
    await walk_through(mark)
    assert await line.watermark("c1") == 6


async def test_returns_dead_letters_and_voids_count_as_accounted(
    line: Line, valkey_client: Any
) -> None:
    """Seqs of returns, dead letters and void ranges are passed, overlaps among them."""
    await line.publish("c1")
    await given(line, 10**12 + 2, valkey_client)
    await rows(line, 1, 2, 5)
    await line.sql("UPDATE coupons SET returned_seq = 3 WHERE serial = 1")
    await line.sql(
        "INSERT INTO dead (digest, campaign_id, seq, reason, detail, key, value, at_ms)"
        " VALUES ('a', 'c1', 4, 'X', '', '', '', 1), ('b', 'c1', 5, 'X', '', '', '', 1),"
        " ('c', 'c2', 6, 'X', '', '', '', 1)"
    )
    mark = line.mark()
    await walk_through(mark)
    assert await line.watermark("c1") == 5
    await line.sql("INSERT INTO voids VALUES ('c1', 6, $1, 1)", 10**12)
    await rows(line, 10**12 + 1, 10**12 + 2)
    await walk_through(mark)
    assert await line.watermark("c1") == 10**12 + 2


async def test_it_goes_in_bounded_steps(line: Line, valkey_client: Any) -> None:
    """One walk goes over at most a step's facts of each campaign."""
    await line.publish("c1")
    await given(line, 25, valkey_client)
    await rows(line, *range(1, 26))
    mark = line.mark(step=10)
    for expected, more in ((10, True), (20, True), (25, False), (25, False)):
        assert await mark.walk() is more
        assert await line.watermark("c1") == expected


async def test_the_outbox_is_trimmed_below_it_and_no_further(line: Line) -> None:
    """An entry goes only when its last fact is in the ledger."""
    await line.publish("c1")
    await line.grant("c1", 30, batch=10)
    await rows(line, *range(1, 16))
    await walk_through(line.mark())
    assert await line.outbox("c1") == [20, 30]


@pytest.mark.parametrize("step", ["advanced", "settled"])
async def test_a_crash_at_any_step_is_made_up_for(line: Line, step: Any) -> None:
    """A walker that died between ledger and Redis leaves nothing undone for the next one."""
    await line.publish("c1")
    await line.grant("c1", 20)
    await rows(line, *range(1, 21))
    with pytest.raises(Crash):
        await line.mark(crash_at(step)).walk()
    await walk_through(line.mark())
    assert await line.watermark("c1") == 20
    assert (await line.store.standings(["c1"]))["c1"].watermark == 20
    assert await line.outbox("c1") == []


async def test_redis_that_forgot_a_settlement_is_settled_again(
    line: Line, valkey_client: Any
) -> None:
    """The survey compares with Redis, so an older watermark there is mended."""
    await line.publish("c1")
    await line.grant("c1", 20)
    await rows(line, *range(1, 21))
    mark = line.mark()
    await walk_through(mark)
    valkey_client.hset(keys.campaign("c1"), "watermark", 3)
    await mark.survey()
    await mark.walk()
    assert (await line.store.standings(["c1"]))["c1"].watermark == 20


async def test_a_ledger_ahead_of_redis_is_not_settled(line: Line) -> None:
    """A server that gave fewer seqs than the ledger has keeps its watermark and its outbox."""
    await line.publish("c1")
    await line.grant("c1", 10)
    await rows(line, *range(1, 16))
    await walk_through(line.mark())
    assert (await line.store.standings(["c1"]))["c1"].watermark == 0
    assert await line.outbox("c1") == [10]


async def test_the_lag_is_measured(line: Line) -> None:
    """Facts that Redis gave and the ledger has not are on /metrics."""
    await line.publish("c1")
    await line.grant("c1", 10)
    await rows(line, 1, 2, 3)
    mark = line.mark()
    await walk_through(mark)
    await mark.survey()
    assert line.metrics.values[("flashgrab_persist_lag_serials", ("c1",))] == 7
    await line.store.forget("c1")  # nothing is known then: neither 7 nor 0
    await mark.survey()
    assert ("flashgrab_persist_lag_serials", ("c1",)) not in line.metrics.values


async def holes_of(line: Line) -> str:
    return (await line.store.standings(["c1"]))["c1"].holes


async def test_a_hole_that_stays_is_asked_for_and_then_cleared(line: Line) -> None:
    """Facts that Kafka lost are asked for by range, arrive, and the question is withdrawn."""
    await line.publish("c1")
    await line.grant("c1", 40)
    async with line.running(line.relay(), line.persist()):
        await line.persisted("c1", 40)
        # as if Kafka had lost these: the ledger never got them, and nobody lags
        await line.sql("DELETE FROM coupons WHERE seq IN (11, 12, 13, 20) OR seq > 35")
        mark = line.mark(hole_ms=50)

        async def asked() -> str:
            await mark.walk()
            await mark.survey()
            return await holes_of(line)

        assert await until(asked) == "11-13,20-20,36-40"
        await line.persisted("c1", 40)

        async def cleared() -> bool:
            return not await asked()

        await until(cleared)
    assert await line.rows("c1") == await line.facts("c1")
    assert await line.watermark("c1") == 40


async def test_a_question_without_an_answer_is_put_again(line: Line) -> None:
    """The relay may have died with it: it is withdrawn for a while, so that it can be new."""
    await line.publish("c1")
    await line.grant("c1", 40)
    async with line.running(line.relay(), line.persist()):
        await line.persisted("c1", 40)
    await line.sql("DELETE FROM coupons WHERE seq = 11")
    mark = line.mark(hole_ms=50)
    seen: list[str] = []

    async def twice() -> bool:
        await mark.walk()
        await mark.survey()
        if not seen or seen[-1] != await holes_of(line):
            seen.append(await holes_of(line))
        return len(seen) >= 4

    await until(twice)
    assert seen == ["", "11-11", "", "11-11"]


async def test_a_hole_is_not_asked_for_while_kafka_has_more(line: Line) -> None:
    """What a worker has not read yet is not lost."""
    await line.publish("c1")
    await line.grant("c1", 40)
    async with line.running(line.relay()):
        await until(lambda: _relayed(line, 40))
    mark = line.mark(hole_ms=0)
    for _ in range(5):
        await mark.walk()
        await mark.survey()
    assert await holes_of(line) == ""


async def _relayed(line: Line, count: int) -> bool:
    return line.metrics.values.get(("flashgrab_relayed_facts", ()), 0) >= count


async def test_looking_for_work_reads_no_whole_table(line: Line) -> None:
    """Ten looks a second must not grow with the ledger, whatever statistics there are."""
    await line.publish("c1")
    await line.sql(
        "INSERT INTO coupons SELECT 'c1', n, n, 'u' || n, '', 1, 'k' || n, 1, 1"
        " FROM generate_series(1, 20000) AS n"
    )
    for _ in range(2):
        plan = await line.sql("EXPLAIN " + progress._STANDINGS.replace("$1", "NULL"))
        text = "\n".join(row[0] for row in plan)
        assert "Seq Scan on coupons" not in text
        assert "coupons_by_seq" in text
        await line.sql("ANALYZE")
