"""Negative controls of the way into the ledger, and of the epoch, each beside what it protects."""

from typing import Any

import pytest

from flashgrab import keys, scripts
from flashgrab.errors import StaleWriter
from flashgrab.events import Fact
from flashgrab.ledger import facts
from flashgrab.ledger.facts import BEGINNING, Grant, Move, Position
from flashgrab.scripts import Script
from tests.faults.unprotected import MarkedAfter, MarkedFirst
from tests.worker.line import SESSION_MS, Line, crash_at, until
from worker.persist import Persist, Round

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("faults")]

FACTS, MORE = 200, 50


def persist(line: Line, kind: type[Persist], **more: Any) -> Persist:
    return kind(
        line.pool,
        line.bootstrap,
        line.clock,
        line.metrics,
        session_timeout_ms=SESSION_MS,
        **more,
    )


@pytest.mark.parametrize("kind,kept", [(Persist, True), (MarkedFirst, False)])
async def test_a_mark_before_the_write_loses_the_rows(
    line: Line, kind: type[Persist], kept: bool
) -> None:
    """Killed between the two: what is marked and not written is never read again."""
    await line.publish("c1", FACTS + MORE)
    await line.grant("c1", FACTS)

    async def read_on() -> bool:
        seqs = {row[0] for row in await line.rows("c1")}
        return seqs >= set(range(FACTS + 1, FACTS + MORE + 1))

    async with line.running(line.relay()):
        await line.run_to_crash(persist(line, kind, hook=crash_at("written")))
        async with line.running(persist(line, kind)):
            await line.grant("c1", MORE, start=FACTS)
            await until(read_on)
            if kept:
                await line.persisted("c1", FACTS + MORE)
    assert (await line.rows("c1") == await line.facts("c1")) is kept


@pytest.mark.parametrize("kind,rows", [(Persist, 1), (MarkedAfter, 2)])
async def test_offsets_outside_the_transaction_let_a_stale_worker_write(
    line: Line, kind: type[Persist], rows: int
) -> None:
    """A worker that another one has overtaken is told so; but by then its rows are there."""
    await line.publish("c1", 10)
    await facts.positions(line.pool, keys.GRABS_TOPIC, [0])
    worker = persist(line, kind)
    consumer: Any = Committing()
    await worker._write(consumer, _round(1, BEGINNING), bool)
    with pytest.raises(StaleWriter):
        await worker._write(consumer, _round(2, BEGINNING), bool)
    assert len(await line.rows("c1")) == rows


EPOCH_LINES = {
    scripts.GRAB: "if c[2] ~= epoch then return refuse(2) end\n",
    scripts.SETTLE: "if c[1] ~= epoch then return {2, 0} end\n",
}


def without_epoch(script: Script) -> Script:
    """The script without its one line that looks at the epoch."""
    line = EPOCH_LINES[script]
    assert script.text.count(line) == 1
    changed = Script(script.name, script.keys, script.args, script.repeats)
    vars(changed)["text"] = script.text.replace(line, "")
    return changed


@pytest.mark.parametrize("checked", [True, False])
async def test_an_old_epoch_neither_grants_nor_trims(
    line: Line, valkey_client: Any, checked: bool
) -> None:
    """After a rebuild a gateway and a walker of before are refused; without the check they grant,
    and throw facts of the new epoch away."""
    await line.publish("c1", 10)
    await line.grant("c1", 3)
    valkey_client.hset(keys.campaign("c1"), "epoch", 2)
    grab, settle = scripts.GRAB, scripts.SETTLE
    if not checked:
        grab, settle = without_epoch(grab), without_epoch(settle)
    reply = await line.grab("c1", [("late", "", "k")], epoch=1, script=grab)
    assert (reply[0] == 2) is checked
    touched = [keys.campaign("c1"), keys.outbox("c1")]
    code, trimmed = await line.store.run(settle, touched, [1, 3, ""])
    assert (code, trimmed) == ((2, 0) if checked else (0, 1))


class Committing:
    """A consumer as far as `_write` knows it."""

    async def commit(self, offsets: dict[int, int]) -> None:
        """Kafka's displays are of no interest here."""


def _round(serial: int, before: Position) -> Round:
    fact = Fact(
        event="grab.granted", seq=serial, grab_id=f"c1-{serial}", campaign_id="c1", serial=serial,
        user_id=f"u{serial}", device_id="", round=1, request_id="k", epoch=1, at_ms=1,
    )  # fmt: skip
    mark = f"mark {serial}".encode()
    return Round([Move(0, before, Position(serial, mark))], [Grant(fact, b"", b"")], [])
