"""Writes what the console saw into the ledger: one insert a second, and a sweep a minute.

While PostgreSQL is away, the last QUEUE_MAX seconds wait for it.
"""

import asyncio
import contextlib
from collections import deque

import msgspec
import structlog

from centre.console.shapes import Second
from flashgrab.clock import Clock
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import console
from flashgrab.ledger.console import Kept, Note
from flashgrab.ledger.pool import Pool
from flashgrab.recent import Row

PAUSE_S = 1.0
SWEEP_MS = 60_000
QUEUE_MAX = 600
BEFORE_MS, AFTER_MS = 10_000, 120_000
"""Around an opening: there the rows of 100 ms are kept."""

log = structlog.get_logger()


class Keeper:
    """The loop, and what waits for it."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seconds: deque[Kept] = deque(maxlen=QUEUE_MAX)
        self._notes: deque[Note] = deque(maxlen=QUEUE_MAX)
        self._swept_ms = 0

    def second(self, second: Second, rows: list[Row], openings: list[int]) -> None:
        """Keep it; with its rows where a round opens near it."""
        near = any(at - BEFORE_MS <= second.t < at + AFTER_MS for at in openings)
        fine = msgspec.json.encode(rows) if near else None
        self._seconds.append(Kept(second.t, msgspec.json.encode(second), fine))

    def note(self, note: Note) -> None:
        """Keep it."""
        self._notes.append(note)

    async def run(self) -> None:
        """For ever."""
        said = ""
        while True:
            await asyncio.sleep(PAUSE_S)
            try:
                await self.write()
                said = ""
            except LedgerUnavailable:
                continue  # the applier alarms
            except Exception as error:
                if repr(error) != said:  # the loop outlives a fault of ours, said once
                    said = repr(error)
                    log.exception("console_not_kept")

    async def write(self) -> None:
        """What waits, and now and then the sweep. Raises LedgerUnavailable; then nothing is lost
        that the queue has room for."""
        seconds, notes = list(self._seconds), list(self._notes)
        if seconds or notes:
            await console.keep(self._pool, seconds, notes)
            for queue, written in ((self._seconds, seconds), (self._notes, notes)):
                for one in written:
                    with contextlib.suppress(ValueError):  # it was pushed out meanwhile
                        queue.remove(one)  # type: ignore[arg-type]
        now_ms = self._clock.now_ms()
        if now_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = now_ms
            await console.sweep(self._pool, now_ms)
