"""The last two minutes of this process in rows of 100 ms (flashgrab/recent.py has their shape).

One task of the loop takes differences of plain counters ten times a second; a grab pays nothing.
Counters of campaigns that are over are let sleep: there are thousands of them after a year, and
looking at all of them held up the grabs for 14 ms each time.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

from flashgrab.clock import Clock
from flashgrab.measured import METRICS, Labels
from flashgrab.recent import ROWS_MAX, STEP_MS, Row, Told, floor
from flashgrab.telemetry import Metrics, Tally

GRABS, SECONDS, BATCHES = "flashgrab_grabs", "flashgrab_grab_seconds", "flashgrab_batch_size"
BUCKETS = len(METRICS[SECONDS].bounds) + 1
STILL_MS = 60_000
"""A counter sleeps where nothing was counted for so long and its campaign is none of `Lefts`;"""
ASLEEP_TURNS = 50
"""then it is looked at in one turn of so many, and what it counted is in a row up to 5 s late."""

Lefts = Callable[[], Iterable[tuple[str, int, int]]]
"""Campaign, round and left, as the last replies said; of campaigns that are not over."""


class _Counter:
    """Grabs of one campaign and outcome: what was added to the metric, and its tallies."""

    __slots__ = ("_metrics", "_name", "_seen", "labels", "moved_ms", "tallies")

    def __init__(self, metrics: Metrics, labels: Labels, at_ms: int) -> None:
        self._metrics = metrics
        self._name = (GRABS, labels)
        self._seen = 0
        self.labels = labels
        self.moved_ms = at_ms
        self.tallies: list[Tally] = []

    def grown(self) -> int:
        """By how much, since the last time."""
        count = int(self._metrics.values.get(self._name, 0))
        for tally in self.tallies:
            count += tally.count
        grown, self._seen = count - self._seen, count
        return grown


class Ring:
    """Rows of one process. `since` may be asked from any thread."""

    def __init__(self, metrics: Metrics, lefts: Lefts, clock: Clock) -> None:
        self._metrics = metrics
        self._lefts = lefts
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=ROWS_MAX)
        self._until = floor(clock.now_ms())
        self._counters: dict[Labels, _Counter] = {}
        self._in_turn: list[_Counter] = []  # all of them, in the order of their first grab
        self._awake: dict[_Counter, None] = {}
        self._met = (0, 0)
        self._turn = 0
        self._meet()
        for counter in self._in_turn:
            counter.grown()  # before: not of any row
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
        going = self._note_left(row)
        self._note_grabs(row, going, until)
        seconds, calls, requests = self._count_calls()
        if seconds != self._seconds:
            row.seconds = [a - b for a, b in zip(seconds, self._seconds, strict=True)]
        row.calls, row.requests = calls - self._calls, requests - self._requests
        self._seconds, self._calls, self._requests = seconds, calls, requests
        if not row.is_empty:
            self._rows.append(row)
        self._until = until

    def since(self, since_ms: int) -> Told:
        """Rows that begin at or after `since_ms`."""
        until = self._until  # first: a row that comes between is told the next time
        return Told(until, [row for row in list(self._rows) if since_ms <= row.t < until])

    def _note_left(self, row: Row) -> set[str]:
        """What has changed; gives the campaigns that are going."""
        going = set()
        for campaign, number, left in self._lefts():
            going.add(campaign)
            if self._left.get((campaign, number)) != left:
                self._left[campaign, number] = left
                row.left.setdefault(campaign, {})[str(number)] = left
        return going

    def _note_grabs(self, row: Row, going: set[str], until: int) -> None:
        """Of all who are awake, and of those whose turn it is to be looked at."""
        self._meet()
        self._turn += 1
        looked_at = self._in_turn[self._turn % ASLEEP_TURNS :: ASLEEP_TURNS]
        for counter in (*self._awake, *looked_at):
            if grown := counter.grown():
                campaign, outcome = counter.labels
                row.grabs.setdefault(campaign, {})[outcome] = grown
                counter.moved_ms = until
        for counter in looked_at:
            if counter.labels[0] in going or until - counter.moved_ms < STILL_MS:
                self._awake[counter] = None
            else:
                self._awake.pop(counter, None)

    def _meet(self) -> None:
        """Counters and tallies that are new."""
        counters, tallies = self._metrics.counters, self._metrics.tallies
        known_counters, known_tallies = self._met
        self._met = (len(counters), len(tallies))
        for name, labels in counters[known_counters:]:
            if name == GRABS:
                self._counter(labels)
        for tally in tallies[known_tallies:]:
            for name, labels in tally.counters:
                if name == GRABS:
                    self._counter(labels).tallies.append(tally)

    def _counter(self, labels: Labels) -> _Counter:
        found = self._counters.get(labels)
        if found is None:
            found = self._counters[labels] = _Counter(self._metrics, labels, self._until)
            self._in_turn.append(found)
            self._awake[found] = None
        return found

    def _count_calls(self) -> tuple[list[int], int, int]:
        histograms = self._metrics.histograms
        seconds, batches = histograms.get((SECONDS, ())), histograms.get((BATCHES, ()))
        return (
            list(seconds.counts) if seconds else [0] * BUCKETS,
            sum(batches.counts) if batches else 0,
            int(batches.total) if batches else 0,
        )
