"""What was promised, held against a run: the targets of the fast path, as ratios inside a round."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

from bench.figures import Spread, ratios, spread
from bench.result import Condition, Sample

OURS = "flashgrab"
MEASURES: Mapping[str, Callable[[Sample], float]] = {
    "requests/s": attrgetter("per_second"),
    "CPU": attrgetter("cpu_us"),
    "server CPU": attrgetter("server_us"),
    "Redis µs": attrgetter("redis_us"),
    "Redis commands/s": lambda s: s.redis_commands * s.per_second,
}
BOTH = ("no", "always")
HEARTBEAT = 60
"""Redis commands/s that a gateway may ask in a storm, whatever its size: clock, floors, changes."""


@dataclass(frozen=True, slots=True)
class Target:
    """A measure of ours, over another system's or (against "") by itself.

    `limits` are by connections; the median must be at least or at most that.
    """

    workload: str
    against: str
    measure: str
    limits: Mapping[int, float]
    at_least: bool = False
    fsyncs: Sequence[str] = BOTH


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target under one condition; `seen` is None where it could not be measured."""

    target: Target
    condition: Condition
    seen: Spread | None

    @property
    def reached(self) -> bool | None:
        if self.seen is None:
            return None
        limit = self.target.limits[self.condition.connections]
        return self.seen.median >= limit if self.target.at_least else self.seen.median <= limit

    def __str__(self) -> str:
        t, c = self.target, self.condition
        sign = "≥" if t.at_least else "≤"
        words = {True: "reached", False: "**missed**", None: "not measured"}
        over = f"over {t.against}'s" if t.against else "by itself"
        cells = [t.workload, f"{t.measure}, {over}", c.connections, c.fsync, self.seen or "-"]
        cells += [f"{sign} {t.limits[c.connections]:.3g}", words[self.reached]]
        return "| " + " | ".join(map(str, cells)) + " |"


def at(both: float) -> dict[int, float]:
    """The same limit at 64 and at 256 connections."""
    return {64: both, 256: both}


TARGETS = (
    Target("W1", "textbook", "requests/s", {64: 6, 256: 10}, at_least=True, fsyncs=("always",)),
    Target("W1", "textbook", "CPU", at(1 / 7), fsyncs=("always",)),
    Target("W1", "nginx-lua", "CPU", at(0.55)),
    Target("W1", "go-pipelined", "requests/s", at(1.3), at_least=True),
    Target("W1", "go-pipelined", "CPU", {64: 0.75, 256: 0.65}),
    Target("W1", "go-batched", "CPU", {64: 1.1, 256: 1.0}),
    Target("W1", "floor", "server CPU", at(1.9)),
    Target("W1", "", "Redis µs", {256: 4.0}, fsyncs=("always",)),
    Target("W2", "go-pipelined", "requests/s", at(1.8), at_least=True),
    Target("W2", "go-pipelined", "CPU", at(0.4)),
    Target("W2", "floor", "CPU", at(1.5)),
    Target("W2", "", "Redis commands/s", at(HEARTBEAT)),
    Target("W3", "go-pipelined", "requests/s", at(1.8), at_least=True),
    Target("W3", "go-pipelined", "CPU", at(0.4)),
)


def judge(samples: Sequence[Sample]) -> list[Verdict]:
    """Every target under every condition that this run had."""
    conditions = list(dict.fromkeys(s.condition for s in samples if s.system == OURS))
    return [
        Verdict(target, condition, _seen(target, condition, samples))
        for target in TARGETS
        for condition in conditions
        if condition.connections in target.limits and condition.fsync in target.fsyncs
    ]


def _seen(target: Target, condition: Condition, samples: Sequence[Sample]) -> Spread | None:
    measure = MEASURES[target.measure]
    ours = of(samples, OURS, target.workload, condition)
    if not ours:
        return None
    if not target.against:
        return spread([measure(s) for s in ours])
    theirs = of(samples, target.against, target.workload, condition)
    return compare(ours, theirs, measure) if theirs else None


def compare(
    ours: Sequence[Sample], theirs: Sequence[Sample], measure: Callable[[Sample], float]
) -> Spread:
    """Of a measure, ours over theirs, round by round."""
    return ratios([measure(s) for s in ours], [measure(s) for s in theirs])


def of(samples: Sequence[Sample], system: str, workload: str, condition: Condition) -> list[Sample]:
    """A system's samples in the order of rounds. The floor knows neither workloads nor Redis."""
    floor = system == "floor"
    found = (
        s
        for s in samples
        if s.system == system
        and s.condition.connections == condition.connections
        and (floor or (s.condition == condition and s.workload == workload))
    )
    return sorted(found, key=attrgetter("round"))
