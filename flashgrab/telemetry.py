"""Metrics and logs. Counting is plain integers; Prometheus' library only renders them.

The registry of metrics is closed (contract §6), and labels come from closed lists and known
campaigns only. A snapshot is plain data, so that a parent can add up those of its children.
"""

import bisect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import start_http_server
from prometheus_client.registry import Collector, CollectorRegistry

from flashgrab import __version__
from flashgrab.alarms import Alarms, Part
from flashgrab.failures import is_unsaid
from flashgrab.process_rows import process_rows
from flashgrab.recent import Say, Told, encoded

Labels = tuple[str, ...]


@dataclass(frozen=True)
class Spec:
    """One metric: kind, help, names of its labels, bucket bounds where it is a histogram; the parts
    that show values of it."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    parts: tuple[Part, ...] = ("gateway",)


RELAY: tuple[Part, ...] = ("relay",)
WORKER: tuple[Part, ...] = ("worker",)
ALL: tuple[Part, ...] = ("gateway", "relay", "worker", "centre")

SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0)

METRICS: dict[str, Spec] = {
    "flashgrab_grabs": Spec("counter", "Grabs answered, by outcome", ("campaign", "outcome")),
    "flashgrab_grab_seconds": Spec("histogram", "From request read to answer", (), SECONDS),
    "flashgrab_batch_size": Spec("histogram", "Requests of one script call", (), SIZES),
    "flashgrab_script_seconds": Spec(
        "histogram", "Script call as the caller sees it", ("script",), SECONDS
    ),
    "flashgrab_left": Spec("gauge", "Coupons that a round can still grant", ("campaign", "round")),
    "flashgrab_outbox_entries": Spec("gauge", "Entries in the outbox", ("campaign",), parts=RELAY),
    "flashgrab_relay_lag_seconds": Spec(
        "gauge", "Age of the oldest fact not yet in Kafka", parts=RELAY
    ),
    "flashgrab_relay_leads": Spec(
        "gauge", "1 where this relay holds the lease, 0 where it waits", parts=RELAY
    ),
    "flashgrab_relayed_facts": Spec("counter", "Facts acknowledged by Kafka", parts=RELAY),
    "flashgrab_persisted_facts": Spec("counter", "Facts written to the ledger", parts=WORKER),
    "flashgrab_persist_lag_serials": Spec(
        "gauge",
        "Facts given by Redis and not yet below the watermark",
        ("campaign",),
        parts=WORKER,
    ),
    "flashgrab_dead_letters": Spec(
        "counter", "Events that could not be stored", ("reason",), parts=RELAY + WORKER
    ),
    "flashgrab_invariant_ok": Spec(
        "gauge",
        "1 where the live audit finds the invariant kept",
        ("campaign", "invariant"),
        parts=WORKER,
    ),
    "flashgrab_inflight": Spec("gauge", "Requests being answered"),
    "flashgrab_connections": Spec("gauge", "Connections that are open"),
    "flashgrab_connections_refused": Spec(
        "counter", "Connections refused or given up before a request, by reason", ("reason",)
    ),
    "flashgrab_refused_locally": Spec("counter", "Refusals without a Redis command", ("reason",)),
    "flashgrab_limited_alone": Spec(
        "counter", "Requests held to rate limits by one process alone, the limiter being away"
    ),
    "flashgrab_risk_decisions": Spec(
        "counter", "What the risk rules say of requests for passes", ("mode", "decision")
    ),
    "flashgrab_challenges": Spec(
        "counter", "Challenges before a pass: asked, solved, wrong, unavailable", ("result",)
    ),
    "flashgrab_shed": Spec("counter", "Grabs told BUSY because others waited", ("campaign",)),
    "flashgrab_admitted_max": Spec(
        "gauge", "Grabs that may wait while new ones are told BUSY", ("campaign",)
    ),
    "flashgrab_loop_late_seconds": Spec("gauge", "By how much a gateway's loop was late last"),
    "flashgrab_held_connections": Spec("gauge", "New connections not read from, its loop is late"),
    "flashgrab_redis_connects": Spec("counter", "Connections made to Redis by the grab path"),
    "flashgrab_not_warmed": Spec(
        "counter", "Script calls refused whole, by verdict", ("campaign", "verdict")
    ),
    "flashgrab_resends": Spec("counter", "Batches sent a second time after a lost reply"),
    "flashgrab_alarm": Spec(
        "gauge", "1 while it is so; docs/runbook.md says more", ("alarm",), parts=ALL
    ),
    "flashgrab_alarms_begun": Spec("counter", "Alarms that have begun", ("alarm",), parts=ALL),
    "flashgrab_build_info": Spec("gauge", "1; which release runs", ("version", "part"), parts=ALL),
    "process_cpu_seconds": Spec("counter", "CPU time of the part's processes", parts=ALL),
    "process_resident_memory_bytes": Spec(
        "gauge", "Memory of the part's processes, what they share counted for each", parts=ALL
    ),
    "process_virtual_memory_bytes": Spec(
        "gauge", "Address space of the part's processes", parts=ALL
    ),
    "process_open_fds": Spec("gauge", "Open files of the part's processes", parts=ALL),
    "process_max_fds": Spec("gauge", "Files that they may have open", parts=ALL),
    "process_start_time_seconds": Spec(
        "gauge", "When the part was started, seconds since 1970", parts=ALL
    ),
}
"""Names without the `_total` that Prometheus adds to counters."""

ADDED = (
    "flashgrab_inflight",
    "flashgrab_connections",
    "flashgrab_held_connections",
    "flashgrab_admitted_max",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "process_open_fds",
    "process_max_fds",
)
"""Gauges of processes that are added up."""
LARGEST = ("flashgrab_alarm", "flashgrab_loop_late_seconds")
"""Those where what one process sees is so."""
FIRST = ("process_start_time_seconds",)
"""Those of the parent, which is merged first."""


@dataclass
class Histogram:
    """Counts by bucket (last one open-ended) and the sum of what was observed."""

    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Tally:
    """A number that is to be added to some counters: one addition where it is counted."""

    counters: tuple[tuple[str, Labels], ...]
    count: int = 0


@dataclass
class Metrics:
    """The numbers of one process. Not thread-safe on write; reading a snapshot is."""

    tallies: list[Tally] = field(default_factory=list)
    values: dict[tuple[str, Labels], float] = field(default_factory=dict)
    histograms: dict[tuple[str, Labels], Histogram] = field(default_factory=dict)
    counters: list[tuple[str, Labels]] = field(default_factory=list, compare=False)
    """Those of `values` that were counted on; it only grows, so what is new is at its end."""
    live: dict[str, Callable[[], float]] = field(default_factory=dict)
    """Gauges without labels that are asked for when somebody looks, from any thread."""
    asked: list[Callable[[], list[list[Any]]]] = field(default_factory=list, compare=False)
    """What gives more values when somebody looks, from any thread."""
    alarms: Alarms = field(default_factory=Alarms, compare=False)
    rows: Callable[[int], Told] | None = field(default=None, compare=False)
    """What happened since a moment, where a part keeps it (gateway/ring.py)."""

    def of(self, part: Part) -> None:
        """Show from the start whose they are: its release, its process, its alarms at 0."""
        self.alarms.of(part)
        self.set("flashgrab_build_info", (__version__, part), 1)
        self.asked = [process_rows]

    def add(self, name: str, labels: Labels = (), amount: float = 1) -> None:
        """Count on a counter."""
        key = (name, labels)
        if key not in self.values:
            self.counters.append(key)
        self.values[key] = self.values.get(key, 0) + amount

    def tally(self, *counters: tuple[str, Labels]) -> Tally:
        """One number for all of these counters; whoever looks sees it in them."""
        tally = Tally(counters)
        self.tallies.append(tally)
        return tally

    def set(self, name: str, labels: Labels = (), value: float = 0) -> None:
        """Set a gauge."""
        self.values[(name, labels)] = value

    def drop(self, name: str, labels: Labels) -> None:
        """Forget a gauge of something that is gone."""
        self.values.pop((name, labels), None)

    def only(self, name: str, values: Mapping[Labels, float]) -> None:
        """Set a gauge of what there is now, and forget it of everything else."""
        for key in [k for k in self.values if k[0] == name and k[1] not in values]:
            self.values.pop(key, None)
        for labels, value in values.items():
            self.set(name, labels, value)

    def observe(self, name: str, value: float, labels: Labels = ()) -> None:
        """Put a value into a histogram; seconds or counts, as its name says."""
        bounds, histogram = METRICS[name].bounds, self._histogram(name, labels)
        histogram.counts[bisect.bisect_left(bounds, value)] += 1
        histogram.total += value

    def observe_since(self, name: str, now: float, since: Sequence[float]) -> None:
        """Put the time since each of these moments, the oldest first, into a histogram without
        labels: mostly all fall into one bucket."""
        bounds, histogram = METRICS[name].bounds, self._histogram(name)
        counts, place = histogram.counts, bisect.bisect_left
        longest, shortest = place(bounds, now - since[0]), place(bounds, now - since[-1])
        if longest == shortest:
            counts[longest] += len(since)
        else:
            for moment in since:
                counts[place(bounds, now - moment)] += 1
        histogram.total += now * len(since) - sum(since)

    def _histogram(self, name: str, labels: Labels = ()) -> Histogram:
        found = self.histograms.get((name, labels))
        if found is None:
            found = Histogram([0] * (len(METRICS[name].bounds) + 1))
            self.histograms[name, labels] = found
        return found

    def snapshot(self) -> dict[str, Any]:
        """Plain data: {"values": [[name, labels, value]], "histograms": [[name, labels, …]]}."""
        found = self.values.copy()
        for tally in list(self.tallies):
            for counter in tally.counters:
                found[counter] = found.get(counter, 0) + tally.count
        values = [[name, list(labels), value] for (name, labels), value in found.items()]
        return {
            "values": [
                *values,
                *([name, [], ask()] for name, ask in list(self.live.items())),
                *map(list, self.alarms.rows()),
                *(row for ask in self.asked for row in ask()),
            ],
            "histograms": [
                [n, list(labels), list(h.counts), h.total]
                for (n, labels), h in list(self.histograms.items())
            ],
        }

    def merge(self, snapshot: dict[str, Any], gauges: bool = True) -> None:
        """Add another process' numbers; its gauges only where it is alive."""
        for name, labels, value in snapshot["values"]:
            spec = METRICS[name]
            if spec.kind == "counter" or name in ADDED:
                if gauges or spec.kind == "counter":
                    self.add(name, tuple(labels), value)
            elif gauges and name in LARGEST:
                key = (name, tuple(labels))
                self.values[key] = max(value, self.values.get(key, 0))
            elif gauges and name in FIRST:
                self.values.setdefault((name, tuple(labels)), value)
            elif gauges:
                self.set(name, tuple(labels), value)
        for name, labels, counts, total in snapshot["histograms"]:
            key = (name, tuple(labels))
            mine = self.histograms.setdefault(key, Histogram([0] * len(counts)))
            mine.counts = [a + b for a, b in zip(mine.counts, counts, strict=True)]
            mine.total += total


class _Rendered(Collector):
    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterable[Metric]:
        return render(self._snapshot())


def render(snapshot: dict[str, Any]) -> Iterator[Metric]:
    """Prometheus metric families of a snapshot, every known metric named."""
    for name, spec in METRICS.items():
        if spec.kind == "histogram":
            histogram = HistogramMetricFamily(name, spec.help, labels=spec.labels)
            for n, labels, counts, total in snapshot["histograms"]:
                if n == name:
                    histogram.add_metric(labels, _buckets(spec.bounds, counts), total)
            yield histogram
            continue
        kind = CounterMetricFamily if spec.kind == "counter" else GaugeMetricFamily
        family = kind(name, spec.help, labels=spec.labels)
        for n, labels, value in snapshot["values"]:
            if n == name:
                family.add_metric(labels, value)
        yield family


def _buckets(bounds: tuple[float, ...], counts: list[int]) -> list[tuple[str, float]]:
    rows, running = [], 0
    for bound, count in zip((*bounds, float("inf")), counts, strict=True):
        running += count
        rows.append(("+Inf" if bound == float("inf") else str(bound), float(running)))
    return rows


def serve_metrics(
    port: int,
    snapshot: Callable[[], dict[str, Any]],
    host: str = "127.0.0.1",
    say: Say | None = None,
) -> int:
    """Answer /metrics, and /recent where `say` is given (flashgrab/recent.py), from threads of its
    own. Returns the port (0 picks one)."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Rendered(snapshot))
    server, _ = start_http_server(port, addr=host, registry=registry)
    metrics = server.get_app()
    assert metrics is not None

    def answer(environ: Any, start_response: Any) -> Any:
        if say is None or environ.get("PATH_INFO") != "/recent":
            return metrics(environ, start_response)
        body = encoded(say, environ.get("QUERY_STRING", ""))
        headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        start_response("200 OK", headers)
        return [body]

    server.set_app(answer)
    return int(server.server_port)


def configure_logs(part: str, json_lines: bool) -> None:
    """Structured logs on stderr: one line per event that an operator acts on, none per grab. What
    libraries say through `logging` gets the same form."""
    # Plain tracebacks: the default ones print the locals of every frame, keys and tokens too.
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if json_lines
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    steps: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info if json_lines else _as_it_is,
    ]
    structlog.configure(
        processors=[*steps, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    structlog.contextvars.bind_contextvars(part=part)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *steps],
        )
    )
    handler.addFilter(is_unsaid)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    # aiokafka says what its exceptions say, at every attempt; we say it once (worker/pause.py).
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def _as_it_is(_logger: Any, _method: str, event: Any) -> Any:
    return event
