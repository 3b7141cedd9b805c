"""Alarms begin and end once, for all who see them; their lines are bounded, their metric is not."""

import pytest
from structlog.testing import capture_logs

from flashgrab.alarms import LINES_MAX, LINES_MS, Alarm, Alarms
from flashgrab.telemetry import Metrics


class HandClock:
    """Moved by hand."""

    at_ms = 1_000

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


def rows(alarms: Alarms) -> dict[str, tuple[int, int]]:
    """By anchor: the gauge, and how often it began."""
    found: dict[str, dict[str, int]] = {}
    for name, [anchor], value in alarms.rows():
        found.setdefault(anchor, {})[name] = value
    return {a: (v["flashgrab_alarm"], v["flashgrab_alarms_begun"]) for a, v in found.items()}


def test_it_begins_and_ends_with_one_line_each() -> None:
    """However often it is seen: one line at its begin, with the place in the runbook, one at its
    end with how long it lasted."""
    clock = HandClock()
    alarms = Alarms(clock)
    with capture_logs() as logs:
        for _ in range(3):
            alarms.begin(Alarm.KAFKA_GONE, "connection refused")
        assert rows(alarms) == {"kafka-gone": (1, 1)}
        clock.at_ms += 700
        for _ in range(3):
            alarms.end(Alarm.KAFKA_GONE)
    assert rows(alarms) == {"kafka-gone": (0, 1)}
    words = Alarm.KAFKA_GONE.value.words
    same = {
        "alarm": "kafka-gone",
        "runbook": "docs/runbook.md#kafka-gone",
        "means": words,
    }
    assert logs == [
        same | {"event": "alarm_begins", "log_level": "error", "reason": "connection refused"},
        same | {"event": "alarm_ends", "log_level": "info", "lasted_ms": 700},
    ]


def test_it_goes_on_until_all_who_see_it_have_ended_it() -> None:
    """Two loops see the same service away: one line, and no end while one of them still does."""
    alarms = Alarms()
    with capture_logs() as logs:
        alarms.begin(Alarm.REDIS_GONE, by="walk")
        alarms.begin(Alarm.REDIS_GONE, by="audit")
        alarms.end(Alarm.REDIS_GONE, by="walk")
        assert alarms.is_on(Alarm.REDIS_GONE)
        alarms.end(Alarm.REDIS_GONE, by="nobody")
        alarms.end(Alarm.REDIS_GONE, by="audit")
    assert not alarms.is_on(Alarm.REDIS_GONE)
    assert [entry["event"] for entry in logs] == ["alarm_begins", "alarm_ends"]


def test_each_campaign_is_said() -> None:
    """The metric is one for all campaigns, the lines name each; only() ends those not named."""
    alarms = Alarms()
    with capture_logs() as logs:
        alarms.only(Alarm.CAMPAIGN_CLOSED, {"a": "why", "b": "why"})
        alarms.only(Alarm.CAMPAIGN_CLOSED, {"b": "why", "c": "why"})
        assert rows(alarms) == {"campaign-closed": (1, 3)}
        alarms.only(Alarm.CAMPAIGN_CLOSED, {})
    assert rows(alarms) == {"campaign-closed": (0, 3)}
    said = [(entry["event"].removeprefix("alarm_"), entry["campaign"]) for entry in logs]
    assert said == [
        ("begins", "a"), ("begins", "b"), ("ends", "a"), ("begins", "c"), ("ends", "b"),
        ("ends", "c"),
    ]  # fmt: skip


def test_what_single_requests_show_ends_by_itself() -> None:
    """A failure that is seen at requests goes on for so long after the last one of them."""
    clock = HandClock()
    alarms = Alarms(clock)
    alarms.begin(Alarm.QUEUE_FULL, hold_ms=5000)
    clock.at_ms += 4000
    alarms.begin(Alarm.QUEUE_FULL, hold_ms=5000)
    clock.at_ms += 4999
    alarms.tick()
    assert alarms.is_on(Alarm.QUEUE_FULL)
    clock.at_ms += 1
    alarms.tick()
    assert rows(alarms) == {"queue-full": (0, 1)}


def test_lines_have_a_bound() -> None:
    """An alarm that flaps says so LINES_MAX times a minute, and that it says no more; the metric
    goes on. Another alarm is not held back by it."""
    clock = HandClock()
    alarms = Alarms(clock)
    with capture_logs() as logs:
        for _ in range(100):
            alarms.begin(Alarm.REDIS_GONE)
            alarms.end(Alarm.REDIS_GONE)
        assert len(logs) == LINES_MAX + 1
        assert logs[-1]["event"] == "alarm_lines_held_back"
        assert rows(alarms)["redis-gone"] == (0, 100)
        alarms.begin(Alarm.KAFKA_GONE)
        clock.at_ms += LINES_MS
        alarms.begin(Alarm.REDIS_GONE)
    assert [entry["alarm"] for entry in logs[LINES_MAX + 1 :]] == ["kafka-gone", "redis-gone"]


def test_a_part_shows_its_own_from_the_start() -> None:
    """Prometheus needs the 0 before the 1."""
    alarms = Alarms()
    alarms.of("centre")
    shown = rows(alarms)
    assert shown == {a.anchor: (0, 0) for a in Alarm if "centre" in a.value.parts}
    assert shown.keys() >= {"postgres-gone", "redis-gone", "apply-failed"}


@pytest.mark.parametrize("seen", [(0, 1), (1, 0), (1, 1), (0, 0)])
def test_over_several_processes_it_is_so_where_one_sees_it(seen: tuple[int, int]) -> None:
    """`--processes N`: the gauge is 1 if a living process sees it, begun is the sum, and a dead
    process leaves only what it had counted."""
    total, label = Metrics(), ("redis-gone",)
    for one in seen:
        total.merge(_seeing(one).snapshot())
    assert total.values["flashgrab_alarm", label] == max(seen)
    assert total.values["flashgrab_alarms_begun", label] == sum(seen)
    gone = Metrics()
    gone.merge(_seeing(1).snapshot(), gauges=False)
    assert ("flashgrab_alarm", label) not in gone.values
    assert gone.values["flashgrab_alarms_begun", label] == 1


def _seeing(count: int) -> Metrics:
    metrics = Metrics()
    metrics.alarms.of("gateway")
    if count:
        metrics.alarms.begin(Alarm.REDIS_GONE)
    return metrics
