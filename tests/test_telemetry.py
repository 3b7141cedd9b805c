"""Metrics are exact, merge over processes and render for Prometheus; logs keep secrets."""

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from flashgrab.alarms import Part
from flashgrab.measured import METRICS, SECONDS, SIZES, Labels
from flashgrab.telemetry import Metrics, render, serve_metrics


class Given(Collector):
    """The families of one snapshot."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return render(self._metrics.snapshot())


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    """What Prometheus would read: (name, label values) → value."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given(metrics))
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def test_counting_is_exact_beyond_floats() -> None:
    """Counters are whole numbers, exact where a float would begin to lose ones."""
    metrics = Metrics()
    metrics.add("flashgrab_relayed_facts", amount=2**53)
    metrics.add("flashgrab_relayed_facts")
    assert metrics.values[("flashgrab_relayed_facts", ())] == 2**53 + 1
    total = Metrics()
    total.merge(json.loads(json.dumps(metrics.snapshot())))
    assert total.values[("flashgrab_relayed_facts", ())] == 2**53 + 1


@pytest.mark.parametrize(
    "name, bounds", [("flashgrab_grab_seconds", SECONDS), ("flashgrab_batch_size", SIZES)]
)
def test_a_value_on_a_bound_is_inside_it(name: str, bounds: tuple[float, ...]) -> None:
    """Buckets are `le`: a value on a bound counts below it, one above in the next, and so on."""
    metrics = Metrics()
    for bound in bounds:
        metrics.observe(name, bound)
    metrics.observe(name, bounds[-1] * 2)
    read = samples(metrics)
    for number, bound in enumerate(bounds, 1):
        assert read[(f"{name}_bucket", (str(bound),))] == number
    assert read[(f"{name}_bucket", ("+Inf",))] == len(bounds) + 1
    assert read[(f"{name}_count", ())] == len(bounds) + 1
    assert read[(f"{name}_sum", ())] == pytest.approx(sum(bounds) + bounds[-1] * 2)


@given(
    st.lists(st.integers(0, 4096), min_size=1, max_size=60).map(sorted),
    st.sampled_from([1.0, 8.0, 1024.0]),
)
def test_moments_fall_where_each_would(ages: list[int], parts: float) -> None:
    """A batch observed at once is as if each of it had been: every bucket, and the sum. (Parts of
    a second that a float holds exactly.)"""
    now = 4096.0
    since = [now - age / parts for age in reversed(ages)]
    one, each = Metrics(), Metrics()
    one.observe_since("flashgrab_grab_seconds", now, since)
    for moment in since:
        each.observe("flashgrab_grab_seconds", now - moment)
    name = ("flashgrab_grab_seconds", ())
    assert one.histograms[name].counts == each.histograms[name].counts
    assert one.histograms[name].total == pytest.approx(each.histograms[name].total)


def test_every_metric_is_named_also_before_it_counts() -> None:
    """An empty process shows all names with their help; counters with _total, nothing doubled."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Given(Metrics()))
    text = generate_latest(registry).decode()
    for name, spec in METRICS.items():
        shown = name + "_total" if spec.kind == "counter" else name
        assert text.count(f"# HELP {shown} {spec.help}\n") == 1
        assert text.count(f"# TYPE {shown} {spec.kind}\n") == 1
        assert not name.endswith("_total")
        assert spec.bounds == tuple(sorted(set(spec.bounds)))
        assert bool(spec.bounds) == (spec.kind == "histogram")


def test_gauges_are_set_and_dropped() -> None:
    """A gauge has its last value until what it measures is gone."""
    metrics = Metrics()
    for value in (5.0, 3.0):
        metrics.set("flashgrab_left", ("sale", "1"), value)
    assert samples(metrics)[("flashgrab_left", ("sale", "1"))] == 3
    metrics.drop("flashgrab_left", ("sale", "1"))
    metrics.drop("flashgrab_left", ("sale", "1"))
    assert ("flashgrab_left", ("sale", "1")) not in samples(metrics)


def test_label_values_are_escaped() -> None:
    """Whatever a label holds, it comes back the same, and starts no line of its own."""
    metrics = Metrics()
    metrics.add("flashgrab_dead_letters", ('a"b\\c\nd',))
    assert samples(metrics)[("flashgrab_dead_letters_total", ('a"b\\c\nd',))] == 1


@pytest.mark.parametrize("part", ["gateway", "relay", "worker", "centre"])
def test_a_part_counts_from_zero(part: Part) -> None:
    """What has no labels, or labels of a closed list, is there before the first count: a series
    that begins with it never grows, and a sale of two seconds would be seen by nobody."""
    metrics = Metrics()
    metrics.of(part)
    found = samples(metrics)
    for name, spec in METRICS.items():
        if part not in spec.parts or name.startswith("process_") or spec.kind == "gauge":
            continue
        shown = f"{name}_total" if spec.kind == "counter" else f"{name}_count"
        for labels in spec.at_start(part):
            assert found[shown, labels] == 0
        assert spec.labels or (shown, ()) in found
    if part == "gateway":
        assert found["flashgrab_refused_locally_total", ("SOLD_OUT",)] == 0
        assert found["flashgrab_script_seconds_count", ("limit",)] == 0
        assert found["flashgrab_grab_seconds_bucket", ("+Inf",)] == 0


def test_a_gauge_is_of_what_there_is() -> None:
    """What is set as all of it replaces what was before, and nothing else."""
    metrics = Metrics()
    metrics.set("flashgrab_left", ("a", "1"), 1)
    steps: list[dict[Labels, float]] = [{("a",): 1.0, ("b",): 2.0}, {("b",): 3.0}, {}]
    for lags in steps:
        metrics.only("flashgrab_persist_lag_serials", lags)
        shown = {labels: v for (name, labels), v in metrics.values.items() if "lag" in name}
        assert shown == lags
    assert list(metrics.values) == [("flashgrab_left", ("a", "1"))]


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["a", "b"]), st.integers(1, 1000)),
        st.tuples(st.just("observe"), st.just(""), st.integers(0, 2000)),
        st.tuples(st.just("inflight"), st.just(""), st.integers(0, 5)),
    ),
    max_size=30,
)


def _count(metrics: Metrics, events: list[tuple[str, str, int]]) -> Metrics:
    for what, label, number in events:
        if what == "add":
            metrics.add("flashgrab_grabs", (label, "GRANTED"), number)
        elif what == "observe":
            metrics.observe("flashgrab_batch_size", number)
        else:
            metrics.add("flashgrab_inflight", amount=number)
    return metrics


@given(st.lists(EVENTS, max_size=4))
def test_a_merge_is_as_if_one_process_had_counted(
    processes: list[list[tuple[str, str, int]]],
) -> None:
    """However events are spread over processes, the sum is what one would have counted."""
    total = Metrics()
    for events in processes:
        total.merge(_count(Metrics(), events).snapshot())
    one = Metrics()
    for events in processes:
        _count(one, events)
    assert total == one


def test_a_merge_changes_only_its_target() -> None:
    """The snapshots of children stay as they were, merged as often as one likes."""
    child = _count(Metrics(), [("observe", "", 3), ("add", "a", 1)])
    snapshot = child.snapshot()
    before = json.dumps(snapshot)
    for _ in range(2):
        total = Metrics()
        total.merge(snapshot)
        total.merge(snapshot)
        assert total.values[("flashgrab_grabs", ("a", "GRANTED"))] == 2
        assert total.histograms[("flashgrab_batch_size", ())].total == 6
    assert json.dumps(snapshot) == before


def test_of_the_dead_only_counters_stay() -> None:
    """What a dead process had counted stays; its gauges and requests in flight are gone."""
    child = _count(Metrics(), [("observe", "", 3), ("add", "a", 1), ("inflight", "", 2)])
    child.set("flashgrab_left", ("a", "1"), 7)
    gone = Metrics()
    gone.merge(child.snapshot(), gauges=False)
    assert gone.values == {("flashgrab_grabs", ("a", "GRANTED")): 1}
    assert gone.histograms[("flashgrab_batch_size", ())].total == 3


def test_gauges_of_the_living_are_theirs() -> None:
    """A gauge that all processes measure is not added up; requests in flight are."""
    total = Metrics()
    for left in (9.0, 8.0):
        child = Metrics()
        child.set("flashgrab_left", ("a", "1"), left)
        child.set("flashgrab_inflight", (), 2)
        child.set("flashgrab_admitted_max", ("a",), 100)
        total.merge(child.snapshot())
    assert total.values == {
        ("flashgrab_left", ("a", "1")): 8,
        ("flashgrab_inflight", ()): 4,
        ("flashgrab_admitted_max", ("a",)): 200,
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the listener lives as long as the process
def test_metrics_are_served_on_loopback() -> None:
    """Each scrape shows the numbers of its moment."""
    metrics = Metrics()
    port = serve_metrics(0, metrics.snapshot)
    for count in (1, 2):
        metrics.add("flashgrab_resends")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            assert f"flashgrab_resends_total {float(count)}\n" in answer.read().decode()


@pytest.mark.parametrize("json_lines", [True, False])
def test_tracebacks_show_no_locals(json_lines: bool) -> None:
    """An exception in the log has its traceback, but not the values of variables: keys, tokens."""
    program = f"""
import structlog
from flashgrab.telemetry import configure_logs
configure_logs("gateway", {json_lines})
def fails():
    secret = "-".join(["s3cr3t", "value"])
    raise ValueError("no reason")
try:
    fails()
except ValueError:
    structlog.get_logger().exception("it_failed", campaign="sale")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30
    )
    assert done.stdout == ""
    for part in ("it_failed", "sale", "ValueError: no reason", "in fails", "gateway"):
        assert part in done.stderr
    assert "s3cr3t-value" not in done.stderr
    if json_lines:
        (line,) = done.stderr.splitlines()
        assert json.loads(line)["event"] == "it_failed"
