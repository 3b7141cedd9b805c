"""Writes what the console saw into the ledger: one insert a second, and a sweep a minute.

Whether a round opened near a second is known for certain only a little later (a sale that opens
"now" is in the ledger after its opening), so a second waits WAIT_MS before it is written. While
PostgreSQL is away, the last QUEUE_MAX seconds wait for it.
"""

import asyncio
import contextlib
from collections import deque
from typing import NamedTuple

import msgspec

from centre.console.shapes import SECOND_MS, Second
from flashgrab.clock import Clock
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import console
from flashgrab.ledger.console import Kept, Note
from flashgrab.ledger.pool import Pool
from flashgrab.recent import Row

SWEEP_MS = 60_000
QUEUE_MAX = 600
WAIT_MS = 4000
LAST_S_MAX = 2.0
"""For what still waits when the centre stops."""
BEFORE_MS, AFTER_MS = 10_000, 120_000
"""Around an opening: there the rows of 100 ms are kept."""


class _Waiting(NamedTuple):
    """A second, and its rows of 100 ms."""

    second: Second
    rows: list[Row]


class Keeper:
    """The loop, and what waits for it."""

    def __init__(self, pool: Pool, clock: Clock) -> None:
        self._pool = pool
        self._clock = clock
        self._seconds: deque[_Waiting] = deque(maxlen=QUEUE_MAX)
        self._notes: deque[Note] = deque(maxlen=QUEUE_MAX)
        self._swept_ms = 0

    @property
    def waiting(self) -> int:
        """Seconds that are not in the ledger yet."""
        return len(self._seconds)

    def second(self, second: Second, rows: list[Row]) -> None:
        """Keep it; with its rows where a round opens near it."""
        self._seconds.append(_Waiting(second, rows))

    def note(self, note: Note) -> None:
        """Keep it."""
        self._notes.append(note)

    async def stop(self) -> None:
        """What waits is written at last, if PostgreSQL is there."""
        with contextlib.suppress(LedgerUnavailable, TimeoutError):
            async with asyncio.timeout(LAST_S_MAX):
                await self._write(list(self._seconds))

    async def look(self) -> None:
        """Once a second."""
        with contextlib.suppress(LedgerUnavailable):  # the applier alarms
            await self.write()

    async def write(self) -> None:
        """What has waited long enough, and now and then the sweep. Raises LedgerUnavailable; then
        nothing is lost that the queue has room for."""
        now_ms = self._clock.now_ms()
        old_ms = now_ms - WAIT_MS - SECOND_MS
        await self._write([one for one in self._seconds if one.second.t <= old_ms])
        if now_ms - self._swept_ms >= SWEEP_MS:
            self._swept_ms = now_ms
            await console.sweep(self._pool, now_ms)

    async def _write(self, seconds: list[_Waiting]) -> None:
        notes = list(self._notes)
        if not seconds and not notes:
            return
        await console.keep(self._pool, await self._kept(seconds), notes)
        for queue, written in ((self._seconds, seconds), (self._notes, notes)):
            for one in written:
                with contextlib.suppress(ValueError):  # it was pushed out meanwhile
                    queue.remove(one)  # type: ignore[arg-type]

    async def _kept(self, seconds: list[_Waiting]) -> list[Kept]:
        """As the ledger has them."""
        if not seconds:
            return []
        times = [one.second.t for one in seconds]
        openings = await console.openings(
            self._pool, min(times) - AFTER_MS + 1, max(times) + BEFORE_MS + 1
        )
        return [
            Kept(
                second.t,
                msgspec.json.encode(second),
                msgspec.json.encode(rows) if is_near(second.t, openings) else None,
            )
            for second, rows in seconds
        ]


def is_near(at_ms: int, openings: list[int]) -> bool:
    """Whether a second is one of those whose steps of 100 ms are kept."""
    return any(opened - BEFORE_MS <= at_ms < opened + AFTER_MS for opened in openings)
