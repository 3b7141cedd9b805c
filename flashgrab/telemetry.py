"""Metrics and logs. Counting is plain integers; Prometheus' library only renders them.

A snapshot is plain data, so that a parent can add up those of its children.
"""

import bisect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
from flashgrab.measured import ADDED, FIRST, LARGEST, METRICS, Labels
from flashgrab.process_rows import process_rows
from flashgrab.recent import Say, Told, encoded

Key = tuple[str, Labels]


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
    values: dict[Key, float] = field(default_factory=dict)
    histograms: dict[Key, Histogram] = field(default_factory=dict)
    counters: list[Key] = field(default_factory=list, compare=False)
    """Those of `values` that were counted on; it only grows, so what is new is at its end."""
    live: dict[str, Callable[[], float]] = field(default_factory=dict)
    """Gauges without labels that are asked for when somebody looks, from any thread."""
    asked: list[Callable[[], list[list[Any]]]] = field(default_factory=list, compare=False)
    """What gives more values when somebody looks, from any thread."""
    alarms: Alarms = field(default_factory=Alarms, compare=False)
    rows: Callable[[int], Told] | None = field(default=None, compare=False)
    """What happened since a moment, where a part keeps it (gateway/ring.py)."""

    def of(self, part: Part) -> None:
        """Show from the start whose they are: its release, its process, its counters and alarms."""
        self.alarms.of(part)
        self.set("flashgrab_build_info", (__version__, part), 1)
        self.asked = [process_rows]
        for name, spec in METRICS.items():
            for labels in () if name.startswith("process_") else spec.at_start(part):
                if spec.kind == "histogram":
                    self._histogram(name, labels)
                else:
                    self.add(name, labels, 0)

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

    def script_took(self, script: str, seconds: float) -> None:
        """One call of this script."""
        self.observe("flashgrab_script_seconds", seconds, (script,))

    def observe_since(self, name: str, now: float, since: Sequence[float]) -> None:
        """Put the time since each of these moments, the oldest first, into a histogram without
        labels: mostly all fall into one bucket or two, so that a look at each edge is enough."""
        bounds, histogram = METRICS[name].bounds, self._histogram(name)
        counts, place, size = histogram.counts, bisect.bisect_left, len(since)
        longest, shortest = place(bounds, now - since[0]), place(bounds, now - since[-1])
        longer = 0  # how many belong into a bucket above
        while longest > shortest:
            longest -= 1
            older = place(since, now - bounds[longest])
            counts[longest + 1] += older - longer
            longer = older
        counts[shortest] += size - longer
        histogram.total += now * size - sum(since)

    def _histogram(self, name: str, labels: Labels = ()) -> Histogram:
        found = self.histograms.get((name, labels))
        if found is None:
            found = Histogram([0] * (len(METRICS[name].bounds) + 1))
            self.histograms[name, labels] = found
        return found

    def _tallied(self, found: dict[Key, float]) -> dict[Key, float]:
        for tally in list(self.tallies):
            for counter in tally.counters:
                found[counter] = found.get(counter, 0) + tally.count
        return found

    def counted(self) -> dict[Key, float]:
        """What this process has counted; without gauges."""
        return self._tallied({key: self.values.get(key, 0) for key in list(self.counters)})

    def observed(self) -> list[list[Any]]:
        """The histograms of a snapshot."""
        return [
            [name, list(labels), list(h.counts), h.total]
            for (name, labels), h in list(self.histograms.items())
        ]

    def mark(self) -> float:
        """Another one after any grab: a look that costs next to nothing."""
        observed = sum(h.total for h in list(self.histograms.values()))
        return observed + sum(tally.count for tally in list(self.tallies))

    def snapshot(self) -> dict[str, Any]:
        """Plain data: {"values": [[name, labels, value]], "histograms": [[name, labels, …]]}."""
        found = self._tallied(self.values.copy())
        values = [[name, list(labels), value] for (name, labels), value in found.items()]
        return {
            "values": [
                *values,
                *([name, [], ask()] for name, ask in list(self.live.items())),
                *map(list, self.alarms.rows()),
                *(row for ask in self.asked for row in ask()),
            ],
            "histograms": self.observed(),
        }

    def replace(self, snapshot: dict[str, Any]) -> None:
        """These numbers instead of what was known of them."""
        for name, labels, value in snapshot["values"]:
            self.values[name, tuple(labels)] = value
        for name, labels, counts, total in snapshot["histograms"]:
            self.histograms[name, tuple(labels)] = Histogram(counts, total)

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
