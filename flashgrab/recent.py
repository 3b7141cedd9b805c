"""The last two minutes in steps of 100 ms: the one shape from a gateway's loop to the console.

A sale is over in two seconds, of which a scrape every 15 s shows one point. So each gateway process
keeps rows (gateway/ring.py), its metrics listener tells them at /recent?since=MS as a `Said`, and
whoever reads several processes puts them on one axis with `Joined`. Counts are differences of
counters, and none is lost on the way: what comes late goes into the next row.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
from msgspec import Struct

from flashgrab import __version__

if TYPE_CHECKING:
    import psutil

    from flashgrab.telemetry import Metrics

STEP_MS = 100
KEPT_MS = 120_000
ROWS_MAX = KEPT_MS // STEP_MS
LATE_MS = 2000
"""How long a row waits for a source that is late."""
VALUES = frozenset(
    f"flashgrab_{name}"
    for name in (
        *("connections", "inflight", "loop_late_seconds", "alarm", "dead_letters"),
        *("outbox_entries", "relay_lag_seconds", "relay_leads", "relayed_facts"),
        *("persist_lag_serials", "persisted_facts", "invariant_ok", "refused_locally"),
    )
)
"""Metrics of which /recent tells the value of now, besides the rows."""


class Row(Struct, omit_defaults=True):
    """What happened in a step; what did not happen is left out.

    `t` is where the step begins (ms since 1970); `grabs` by campaign and outcome; `seconds` counts
    latencies in the buckets of flashgrab_grab_seconds; `calls` are script calls with `requests` in
    them; `left` by campaign and round, only where it changed.
    """

    t: int
    grabs: dict[str, dict[str, int]] = {}
    seconds: list[int] = []
    calls: int = 0
    requests: int = 0
    left: dict[str, dict[str, int]] = {}

    def add(self, other: "Row") -> None:
        """Another row of the same step, of another process."""
        for campaign, outcomes in other.grabs.items():
            mine = self.grabs.setdefault(campaign, {})
            for outcome, count in outcomes.items():
                mine[outcome] = mine.get(outcome, 0) + count
        if other.seconds:
            mine_s = self.seconds or [0] * len(other.seconds)
            self.seconds = [a + b for a, b in zip(mine_s, other.seconds, strict=True)]
        self.calls += other.calls
        self.requests += other.requests
        for campaign, rounds in other.left.items():
            lefts = self.left.setdefault(campaign, {})
            for number, left in rounds.items():
                lefts[number] = min(left, lefts.get(number, left))  # the newer one, in a sale

    @property
    def is_empty(self) -> bool:
        return not (self.grabs or self.calls or self.left)


class Process(Struct):
    """A process by its own account; `cpu_ms` is user and system time since its start."""

    part: str
    pid: int
    version: str
    up_since_ms: int
    cpu_ms: int
    memory: int
    connections: int | None = None


class Said(Struct):
    """The answer of /recent. Rows that begin before `until` are final and told once; `values` are
    [name, labels, value] of VALUES."""

    part: str
    now_ms: int
    until: int
    bounds: list[float]
    rows: list[Row]
    processes: list[Process]
    values: list[tuple[str, list[str], float]]


def by_our_clock(said: Said, ahead_ms: int) -> Said:
    """What somebody said whose clock is ahead of ours by so much: times that we can compare. Only
    `now_ms` stays his."""
    ahead_ms = floor(ahead_ms)
    if not ahead_ms:
        return said
    for row in said.rows:
        row.t -= ahead_ms
    for process in said.processes:
        process.up_since_ms -= ahead_ms
    said.until -= ahead_ms
    return said


class Told(NamedTuple):
    """Rows that begin at or after some moment, and up to where they are final."""

    until: int
    rows: list[Row]


class Joined:
    """Rows of several sources on one axis; a row is final once every source has passed it, or is
    LATE_MS late. Not for several threads."""

    def __init__(self, late_ms: int = LATE_MS) -> None:
        self.until = 0
        self._late_ms = late_ms
        self._open: dict[int, Row] = {}
        self._reached: dict[object, int] = {}
        self._final: deque[Row] = deque(maxlen=ROWS_MAX)

    def take(self, source: object, until: int, rows: Iterable[Row]) -> None:
        """What a source has told since the last time."""
        for row in rows:
            t = max(row.t, self.until)
            self._open.setdefault(t, Row(t)).add(row)
        self._reached[source] = until

    def gone(self, source: object) -> None:
        """It is not waited for any more; what it told stays."""
        self._reached.pop(source, None)

    def close(self, now_ms: int) -> list[Row]:
        """Rows that are final now and were not before, empty ones left out. A source whose clock
        is ahead does not take the axis with it: it ends now."""
        latest = floor(now_ms - self._late_ms)
        reached = min(*self._reached.values(), floor(now_ms)) if self._reached else latest
        self.until = max(self.until, latest, reached)
        due = sorted(t for t in self._open if t < self.until)
        found = [self._open.pop(t) for t in due]
        self._final.extend(found)
        return found

    def since(self, since_ms: int) -> Told:
        """Final rows that begin at or after `since_ms`."""
        return Told(self.until, [row for row in list(self._final) if row.t >= since_ms])


def floor(at_ms: int) -> int:
    """The beginning of the step that a moment is in."""
    return at_ms - at_ms % STEP_MS


class Own:
    """What this process says of itself: its own /recent."""

    def __init__(self, part: str, metrics: "Metrics") -> None:
        self._part = part
        self._metrics = metrics

    def process(self) -> Process:
        """CPU and memory by its own count."""
        own = _own_process()
        with own.oneshot():
            cpu, memory = own.cpu_times(), own.memory_info().rss
        connections = self._metrics.live.get("flashgrab_connections")
        return Process(
            self._part,
            own.pid,
            __version__,
            int(own.create_time() * 1000),
            int((cpu.user + cpu.system) * 1000),
            memory,
            int(connections()) if connections else None,
        )

    def say(self, since_ms: int) -> Said:
        """Rows from `since_ms` on, and the values of now."""
        now_ms = time.time_ns() // 1_000_000
        rows = self._metrics.rows
        until, found = rows(since_ms) if rows else Told(floor(now_ms), [])
        values = told_values(self._metrics.snapshot())
        return Said(self._part, now_ms, until, bounds(), found, [self.process()], values)


@cache
def _own_process() -> "psutil.Process":
    import psutil  # when somebody asks first: a start is imports

    return psutil.Process()


def bounds() -> list[float]:
    """Upper bounds of the buckets of `seconds`; the last one is open."""
    from flashgrab.measured import METRICS

    return list(METRICS["flashgrab_grab_seconds"].bounds)


def told_values(snapshot: dict[str, Any]) -> list[tuple[str, list[str], float]]:
    """Of a snapshot of Metrics, what /recent tells."""
    return [(name, labels, value) for name, labels, value in snapshot["values"] if name in VALUES]


Say = Callable[[int], Said]


def encoded(say: Say, query: str) -> bytes:
    """The body of /recent for a query string; a `since` that is no number is 0."""
    since = query.removeprefix("since=")
    is_number = since.isascii() and since.isdigit() and len(since) < 16
    return msgspec.json.encode(say(int(since) if is_number else 0))
