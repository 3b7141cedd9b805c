"""What `top` makes of the parts' metrics."""

from collections import Counter

import pytest

from flashgrab.alarms import Alarm
from flashgrab.cli.readings import (
    Reading,
    campaigns_of,
    compare,
    grown,
    parse,
    quantile_ms,
    read,
)
from flashgrab.telemetry import Metrics, render

INF = float("inf")


def exposition(metrics: Metrics) -> str:
    """The text that a part gives out."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Rendered(Collector):
        def collect(self):  # type: ignore[no-untyped-def] # as the library has it
            return render(metrics.snapshot())

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Rendered())
    return generate_latest(registry).decode()


def gateway(granted: int = 0, sold_out: int = 0, seconds: float = 0.003) -> Metrics:
    metrics = Metrics()
    metrics.add("flashgrab_grabs", ("c1", "GRANTED"), granted)
    metrics.add("flashgrab_grabs", ("c2", "GRANTED"), 1)
    metrics.add("flashgrab_grabs", ("c1", "SOLD_OUT"), sold_out)
    for _ in range(granted):
        metrics.observe("flashgrab_grab_seconds", seconds)
    metrics.set("flashgrab_left", ("c1", "1"), 40)
    metrics.set("flashgrab_left", ("c1", "2"), 60)
    return metrics


def test_a_reading_is_taken_from_the_real_text() -> None:
    """Counters summed over campaigns, gauges by campaign, from what a part really gives out."""
    found = read(exposition(gateway(granted=10, sold_out=5)), 7.0)
    assert found.at_s == 7.0
    assert found.grabs == {"GRANTED": 11, "SOLD_OUT": 5}
    assert found.left == {("c1", "1"): 40, ("c1", "2"): 60}
    assert found.buckets[INF] == 10
    assert found.buckets[0.0025] == 0
    assert found.buckets[0.005] == 10


def test_a_reading_of_one_campaign_leaves_out_the_others() -> None:
    """Except for latencies, which are not told by campaign."""
    found = read(exposition(gateway(granted=10)), 0.0, "c2")
    assert (found.grabs, found.left) == ({"GRANTED": 1}, {})
    assert found.buckets[INF] == 10


def test_rates_are_of_the_time_between_two_readings() -> None:
    """100 more in two seconds are 50 a second; latencies are those of the interval alone."""
    before = {"g": read(exposition(gateway(granted=1000, seconds=2.0)), 1.0)}
    later = gateway(granted=1000, seconds=2.0)
    later.add("flashgrab_grabs", ("c1", "GRANTED"), 100)
    for _ in range(100):
        later.observe("flashgrab_grab_seconds", 0.0002)
    line = compare(before, {"g": read(exposition(later), 3.0)})
    assert line.grabs == {"GRANTED": 50, "SOLD_OUT": 0}
    assert line.p50_ms is not None
    assert line.p50_ms < 0.25
    assert line.left == 100


def test_a_part_that_comes_back_does_not_count_backwards() -> None:
    """A counter that fell began anew: all it shows is new."""
    assert grown({"a": 100, "b": 5}, {"a": 7, "c": 1}) == {"a": 7, "c": 1}
    assert grown({"a": 100}, {"a": 103, "b": 2}) == {"a": 3, "b": 2}
    assert grown({"a": 1}, {}) == {}


def test_a_part_that_was_away_is_spread_over_that_time() -> None:
    """Its last reading is ten seconds old: a tenth a second."""
    before = {"g": Reading(0.0, Counter(GRANTED=0))}
    assert compare(before, {"g": Reading(10.0, Counter(GRANTED=50))}).grabs == {"GRANTED": 5}


def test_an_address_seen_first_only_shows_its_gauges() -> None:
    """Everything that it counted before is not of this interval."""
    line = compare({}, {"g": read(exposition(gateway(granted=10)), 1.0)})
    assert (line.grabs, line.p99_ms, line.left) == ({}, None, 100)


def test_nobody_answers() -> None:
    """All is unknown, and nothing breaks; the books are not called ok."""
    line = compare({"g": Reading(0.0)}, {})
    assert (line.grabs, line.left, line.outbox, line.lag, line.books_ok) == (
        {}, None, None, None, None,
    )  # fmt: skip


def test_two_gateways_add_up_but_their_stock_is_one() -> None:
    """Rates are summed; `left`, which both report, counts once, by the lower value."""
    before = {name: Reading(0.0, Counter(GRANTED=0)) for name in "ab"}
    now = {
        "a": Reading(1.0, Counter(GRANTED=3), left={("c", "1"): 9}),
        "b": Reading(1.0, Counter(GRANTED=4), left={("c", "1"): 8}),
    }
    line = compare(before, now)
    assert (line.grabs, line.left) == ({"GRANTED": 7}, 8)


def test_one_broken_invariant_is_named() -> None:
    """The books are ok only where every invariant of every campaign is."""
    good = {("c1", "I1"): 1.0, ("c1", "I5"): 1.0}
    assert compare({}, {"w": Reading(0.0, invariants=good)}).books_ok is True
    line = compare({}, {"w": Reading(0.0, invariants={**good, ("c2", "I5"): 0.0})})
    assert (line.books_ok, line.broken) == (False, ("c2 I5",))


def test_outbox_and_lag_are_sums_over_campaigns() -> None:
    """As relay and worker report them."""
    line = compare(
        {}, {"r": Reading(0.0, outbox={"c1": 2, "c2": 3}), "w": Reading(0.0, lag={"c1": 7})}
    )
    assert (line.outbox, line.lag) == (5, 7)


@pytest.mark.parametrize(
    "buckets, share, expected",
    [
        ({}, 0.5, None),
        ({0.001: 0, INF: 0}, 0.5, None),
        ({0.001: 100, INF: 100}, 0.5, 0.5),
        ({0.001: 50, 0.01: 100, INF: 100}, 0.5, 1.0),
        ({0.001: 50, 0.01: 100, INF: 100}, 0.75, 5.5),
        ({0.001: 0, 0.01: 1, INF: 100}, 0.99, 10.0),
    ],
)
def test_a_quantile_is_linear_inside_its_bucket(
    buckets: dict[float, int], share: float, expected: float | None
) -> None:
    """As Prometheus does it; past the last bound it is that bound."""
    found = quantile_ms(buckets, share)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_batch_lag_lights_and_alarms() -> None:
    """Of the interval, of the slowest relay, of the worst campaign, of any part."""
    part = Metrics()
    for size in (1, 9):
        part.observe("flashgrab_batch_size", size)
    part.set("flashgrab_relay_lag_seconds", (), 0.25)
    for campaign, ok in (("c1", 1), ("c2", 0)):
        part.set("flashgrab_invariant_ok", (campaign, "I5"), ok)
        part.set("flashgrab_invariant_ok", (campaign, "I1"), 1)
    part.alarms.of("relay")
    part.alarms.begin(Alarm.KAFKA_GONE)
    now = {"a": read(exposition(part), 2.0), "b": Reading(2.0, relay_lags_s=[0.1])}
    line = compare({"a": Reading(1.0)}, now)
    assert (line.batch, line.relay_lag_s) == (5.0, 0.25)
    assert line.lights == {"I1": True, "I5": False}
    assert line.alarms == ("kafka-gone",)
    assert (line.p95_ms, line.p999_ms) == (None, None)


def test_coupons_of_the_interval() -> None:
    """Counted, not estimated."""
    before = {"g": read(exposition(gateway(granted=10)), 1.0, "c1")}
    line = compare(before, {"g": read(exposition(gateway(granted=17)), 3.0, "c1")})
    assert line.granted == 7


def test_campaigns_are_those_that_labels_name() -> None:
    """For the keys of the live screen."""
    assert campaigns_of(parse(exposition(gateway(granted=1)))) == {"c1", "c2"}
