"""What the parts' /metrics say, and what happened between two readings of them. Pure.

Counters are compared per address, so that a part that comes back and counts from 0 again never
counts backwards, and one that was away for a while is spread over the time it was away.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeVar

from prometheus_client.parser import text_string_to_metric_families

K = TypeVar("K")

Sample = tuple[str, Mapping[str, str], float]

_BATCH = "flashgrab_batch_size"
_KNOWN = frozenset(
    (
        *("flashgrab_grabs_total", "flashgrab_grab_seconds_bucket", f"{_BATCH}_sum"),
        *(f"{_BATCH}_count", "flashgrab_left", "flashgrab_outbox_entries"),
        *("flashgrab_relay_lag_seconds", "flashgrab_persist_lag_serials"),
        *("flashgrab_invariant_ok", "flashgrab_alarm"),
    )
)
"""What is read; a part gives out more."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One address at one moment (`at_s`, monotonic): grabs by outcome, latency buckets (cumulative,
    by upper bound in seconds), sum and count of batches, and gauges by campaign, round, invariant
    and alarm. `relay_lags_s` is empty where this address is no relay that leads."""

    at_s: float
    grabs: Counter[str] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    left: dict[tuple[str, str], float] = field(default_factory=dict)
    outbox: dict[str, float] = field(default_factory=dict)
    lag: dict[str, float] = field(default_factory=dict)
    invariants: dict[tuple[str, str], float] = field(default_factory=dict)
    batches: Counter[str] = field(default_factory=Counter)
    relay_lags_s: list[float] = field(default_factory=list)
    alarms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Line:
    """What `top` shows of an interval; None where no part that answers knows.

    `grabs` are per second; `left`, `outbox` (entries) and `lag` (facts not yet in the ledger) are
    sums over campaigns; `broken` names what the live audit finds wrong, as `spring-618 I5`.
    `granted` are the coupons of the interval, `batch` requests a script call, `lights` the
    invariants (True: kept in all campaigns), `alarms` the anchors of those that are on.
    """

    grabs: Mapping[str, float]
    p50_ms: float | None
    p99_ms: float | None
    left: int | None
    outbox: int | None
    lag: int | None
    books_ok: bool | None
    broken: tuple[str, ...]
    granted: int = 0
    p95_ms: float | None = None
    p999_ms: float | None = None
    batch: float | None = None
    relay_lag_s: float | None = None
    lights: Mapping[str, bool] = field(default_factory=dict)
    alarms: tuple[str, ...] = ()


def read(text: str, at_s: float, campaign: str | None = None) -> Reading:
    """The text of one /metrics, of one campaign or all. ValueError where it is no such text."""
    return of_samples(parse(text), at_s, campaign)


def parse(text: str) -> list[Sample]:
    """What is read of the text of one /metrics. ValueError where it is no such text."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in _KNOWN
    ]


def of_samples(samples: Iterable[Sample], at_s: float, campaign: str | None = None) -> Reading:
    """The reading of one campaign or all."""
    reading = Reading(at_s)
    for name, labels, value in samples:
        if campaign is None or labels.get("campaign", campaign) == campaign:
            _take(reading, name, labels, value)
    return reading


def campaigns_of(samples: Iterable[Sample]) -> set[str]:
    """The campaigns that they name."""
    return {labels["campaign"] for _, labels, _ in samples if "campaign" in labels}


def _take(reading: Reading, name: str, labels: Mapping[str, str], value: float) -> None:
    match name:
        case "flashgrab_grabs_total":
            reading.grabs[labels["outcome"]] += int(value)
        case "flashgrab_grab_seconds_bucket":
            reading.buckets[float(labels["le"])] += int(value)
        case "flashgrab_left":
            reading.left[labels["campaign"], labels["round"]] = value
        case "flashgrab_outbox_entries":
            reading.outbox[labels["campaign"]] = value
        case "flashgrab_persist_lag_serials":
            reading.lag[labels["campaign"]] = value
        case "flashgrab_invariant_ok":
            reading.invariants[labels["campaign"], labels["invariant"]] = value
        case "flashgrab_batch_size_sum" | "flashgrab_batch_size_count":
            reading.batches[name.removeprefix(f"{_BATCH}_")] += int(value)
        case "flashgrab_relay_lag_seconds":
            reading.relay_lags_s.append(value)
        case "flashgrab_alarm":
            reading.alarms[labels["alarm"]] = value


def compare(before: Mapping[str, Reading], now: Mapping[str, Reading]) -> Line:
    """What happened between two sets of readings by address.

    An address that was not read before only shows its gauges.
    """
    rates: dict[str, float] = {}
    observed: Counter[float] = Counter()
    batches: Counter[str] = Counter()
    granted = 0
    for url, reading in now.items():
        earlier = before.get(url)
        if earlier is None or reading.at_s <= earlier.at_s:
            continue
        grabs = grown(earlier.grabs, reading.grabs)
        for outcome, count in grabs.items():
            rates[outcome] = rates.get(outcome, 0.0) + count / (reading.at_s - earlier.at_s)
        granted += grabs.get("GRANTED", 0)
        observed.update(grown(earlier.buckets, reading.buckets))
        batches.update(grown(earlier.batches, reading.batches))
    invariants = _joined(r.invariants for r in now.values())
    broken = sorted(f"{campaign} {name}" for (campaign, name), ok in invariants.items() if ok != 1)
    return Line(
        rates,
        quantile_ms(observed, 0.50),
        quantile_ms(observed, 0.99),
        _sum(_joined(r.left for r in now.values()).values()),
        _sum(_joined(r.outbox for r in now.values()).values()),
        _sum(_joined(r.lag for r in now.values()).values()),
        not broken if invariants else None,
        tuple(broken),
        granted,
        quantile_ms(observed, 0.95),
        quantile_ms(observed, 0.999),
        batches["sum"] / batches["count"] if batches["count"] else None,
        max((lag for r in now.values() for lag in r.relay_lags_s), default=None),
        _lights(invariants),
        tuple(sorted({name for r in now.values() for name, on in r.alarms.items() if on})),
    )


def grown(before: Mapping[K, int], now: Mapping[K, int]) -> dict[K, int]:
    """By how much counters grew; all of it where one fell, which means that they began anew."""
    if any(now.get(key, 0) < count for key, count in before.items()):
        before = {}
    return {key: count - before.get(key, 0) for key, count in now.items()}


def quantile_ms(buckets: Mapping[float, int], share: float) -> float | None:
    """A quantile of cumulative buckets, in ms, linear inside its bucket as Prometheus does it.

    None without an observation; past the last finite bound, that bound.
    """
    bounds = sorted(buckets)
    if not bounds or not buckets[bounds[-1]]:
        return None
    wanted = share * buckets[bounds[-1]]
    for lower, upper in pairwise([0.0, *bounds]):
        below = buckets[lower] if lower else 0
        if buckets[upper] >= wanted:
            if upper == float("inf"):
                return lower * 1000
            inside = buckets[upper] - below
            part = (wanted - below) / inside if inside else 0.0
            return (lower + (upper - lower) * part) * 1000
    return None


def _lights(invariants: Mapping[tuple[str, str], float]) -> dict[str, bool]:
    """By invariant, whether it is kept everywhere."""
    lights: dict[str, bool] = {}
    for (_, name), ok in sorted(invariants.items()):
        lights[name] = lights.get(name, True) and ok == 1
    return lights


def _joined(gauges: Iterable[Mapping[K, float]]) -> dict[K, float]:
    """Gauges of several addresses; what two of them report (each gateway its `left`) counts once,
    the lower value: for a stock it is the newer, for an invariant the worse."""
    joined: dict[K, float] = {}
    for some in gauges:
        for key, value in some.items():
            joined[key] = min(value, joined.get(key, value))
    return joined


def _sum(values: Collection[float]) -> int | None:
    return int(sum(values)) if values else None
