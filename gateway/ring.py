"""The last two minutes of this process in rows of 100 ms (flashgrab/recent.py has their shape).

One task of the loop takes differences of plain counters ten times a second; a grab pays nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from flashgrab.clock import Clock
from flashgrab.recent import ROWS_MAX, STEP_MS, Row, Told, floor
from flashgrab.telemetry import METRICS, Metrics

GRABS, SECONDS, BATCHES = "flashgrab_grabs", "flashgrab_grab_seconds", "flashgrab_batch_size"
BUCKETS = len(METRICS[SECONDS].bounds) + 1

Lefts = Callable[[], Iterable[tuple[str, int, int]]]
"""Campaign, round and left, as the last replies said."""


class Ring:
    """Rows of one process. `since` may be asked from any thread."""

    def __init__(self, metrics: Metrics, lefts: Lefts, clock: Clock) -> None:
        self._metrics = metrics
        self._lefts = lefts
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=ROWS_MAX)
        self._until = floor(clock.now_ms())
        self._grabs = self._count_grabs()
        self._seconds, self._calls, self._requests = self._count_calls()
        self._left: dict[tuple[str, int], int] = {}

    async def keep(self) -> None:
        """For ever: a row shortly after the end of each step."""
        while True:
            await asyncio.sleep((STEP_MS - self._clock.now_ms() % STEP_MS) / 1000)
            self.sample()

    def sample(self) -> None:
        """What was counted since the last time, as the step that has just ended."""
        until = floor(self._clock.now_ms())
        if until <= self._until:
            return  # woken a little early, or a clock that was put back
        row = Row(until - STEP_MS)
        grabs = self._count_grabs()
        for labels, count in grabs.items():
            if grown := count - self._grabs.get(labels, 0):
                campaign, outcome = labels
                row.grabs.setdefault(campaign, {})[outcome] = grown
        self._grabs = grabs
        seconds, calls, requests = self._count_calls()
        if seconds != self._seconds:
            row.seconds = [a - b for a, b in zip(seconds, self._seconds, strict=True)]
        row.calls, row.requests = calls - self._calls, requests - self._requests
        self._seconds, self._calls, self._requests = seconds, calls, requests
        for campaign, number, left in self._lefts():
            if self._left.get((campaign, number)) != left:
                self._left[campaign, number] = left
                row.left.setdefault(campaign, {})[str(number)] = left
        if not row.is_empty:
            self._rows.append(row)
        self._until = until

    def since(self, since_ms: int) -> Told:
        """Rows that begin at or after `since_ms`."""
        until = self._until  # first: a row that comes between is told the next time
        return Told(until, [row for row in list(self._rows) if since_ms <= row.t < until])

    def _count_grabs(self) -> dict[tuple[str, ...], int]:
        found = {
            labels: int(value)
            for (name, labels), value in self._metrics.values.items()
            if name == GRABS
        }
        for tally in self._metrics.tallies:
            for name, labels in tally.counters:
                if name == GRABS:
                    found[labels] = found.get(labels, 0) + tally.count
        return found

    def _count_calls(self) -> tuple[list[int], int, int]:
        histograms = self._metrics.histograms
        seconds, batches = histograms.get((SECONDS, ())), histograms.get((BATCHES, ()))
        return (
            list(seconds.counts) if seconds else [0] * BUCKETS,
            sum(batches.counts) if batches else 0,
            int(batches.total) if batches else 0,
        )
