"""What the parts' /metrics say, and what happened between two readings of them. Pure.

A reading holds the counters and gauges of one address. Counters are compared per address, so
that a part that comes back and counts from 0 again does not count backwards.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from prometheus_client.parser import text_string_to_metric_families

LATENCY = "flashgrab_grab_seconds_bucket"


@dataclass(frozen=True, slots=True)
class Reading:
    """One address at one moment: grabs by outcome, latency buckets (cumulative, by upper bound in
    seconds), and the gauges that `top` shows."""

    grabs: Mapping[str, float] = field(default_factory=dict)
    buckets: Mapping[float, float] = field(default_factory=dict)
    left: Mapping[tuple[str, str], float] = field(default_factory=dict)
    outbox: Mapping[str, float] = field(default_factory=dict)
    lag: Mapping[str, float] = field(default_factory=dict)
    invariants: Mapping[tuple[str, str], float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """What `top` shows of an interval. None: no part that answered knows.

    Grabs are per second, latencies in ms; `p99_open` says that p99 is past the last bucket's
    bound. `broken` names the invariants that do not hold, as `campaign I5`.
    """

    grabs: Mapping[str, float]
    p50_ms: float | None
    p99_ms: float | None
    left: int | None
    outbox: int | None
    lag: int | None
    books_ok: bool | None
    broken: tuple[str, ...]


def read(text: str) -> Reading:
    """The text of one /metrics. Raises ValueError where it is not in Prometheus' format."""
    grabs: Counter[str] = Counter()
    buckets: Counter[float] = Counter()
    reading = Reading(grabs, buckets, {}, {}, {}, {})
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels, value = sample.labels, sample.value
            match sample.name:
                case "flashgrab_grabs_total":
                    grabs[labels["outcome"]] += value
                case "flashgrab_grab_seconds_bucket":
                    buckets[float(labels["le"])] += value
                case "flashgrab_left":
                    reading.left[labels["campaign"], labels["round"]] = value  # type: ignore[index]
                case "flashgrab_outbox_entries":
                    reading.outbox[labels["campaign"]] = value  # type: ignore[index]
                case "flashgrab_persist_lag_serials":
                    reading.lag[labels["campaign"]] = value  # type: ignore[index]
                case "flashgrab_invariant_ok":
                    reading.invariants[labels["campaign"], labels["invariant"]] = value  # type: ignore[index]
    return reading
