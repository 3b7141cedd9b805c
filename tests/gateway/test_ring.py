"""The last two minutes of a gateway in rows of 100 ms: exact, and summed over its processes."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from flashgrab.recent import KEPT_MS, STEP_MS, Row, Said
from flashgrab.telemetry import Metrics
from gateway.ring import ASLEEP_TURNS, BUCKETS, STILL_MS, Ring
from tests.gateway.process import Running, environment, publish, running, until
from tests.lua.server import Valkey, valkey

T = 1_800_000_000_000


class Moved:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_ms = T

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


def test_a_row_has_what_its_step_counted() -> None:
    """Counters and tallies by difference, latencies by bucket, left where it changed; a step in
    which nothing happened has no row."""
    clock, metrics, lefts = Moved(), Metrics(), [("c", 1, 10)]
    metrics.add("flashgrab_grabs", ("c", "GRANTED"), 5)  # before: not of any row
    tally = metrics.tally(
        ("flashgrab_refused_locally", ("SOLD_OUT",)), ("flashgrab_grabs", ("c", "SOLD_OUT"))
    )
    ring = Ring(metrics, lambda: lefts, clock)
    metrics.add("flashgrab_grabs", ("c", "GRANTED"), 2)
    tally.count += 3
    metrics.observe("flashgrab_grab_seconds", 0.0001)
    metrics.observe("flashgrab_grab_seconds", 9.0)
    metrics.observe("flashgrab_batch_size", 2)
    clock.at_ms += STEP_MS + 7
    ring.sample()
    clock.at_ms += STEP_MS
    ring.sample()
    lefts[0] = ("c", 1, 8)
    clock.at_ms += 3 * STEP_MS  # the loop was late
    ring.sample()
    seconds = [1, *[0] * (BUCKETS - 2), 1]
    grabs = {"c": {"GRANTED": 2, "SOLD_OUT": 3}}
    first = Row(T, grabs, seconds, 1, 2, {"c": {"1": 10}})
    last = Row(T + 4 * STEP_MS, left={"c": {"1": 8}})
    assert ring.since(0) == (T + 5 * STEP_MS, [first, last])
    assert ring.since(T + STEP_MS).rows == [last]


def test_a_clock_that_is_put_back_makes_no_second_row() -> None:
    """What was counted meanwhile is in the next row."""
    clock, metrics = Moved(), Metrics()
    ring = Ring(metrics, list, clock)
    clock.at_ms += STEP_MS
    metrics.add("flashgrab_grabs", ("c", "GRANTED"))
    ring.sample()
    clock.at_ms -= 5 * STEP_MS
    metrics.add("flashgrab_grabs", ("c", "GRANTED"))
    ring.sample()
    clock.at_ms += 7 * STEP_MS
    ring.sample()
    assert [one.grabs["c"]["GRANTED"] for one in ring.since(0).rows] == [1, 1]


def test_what_is_over_sleeps_and_is_told_all_the_same() -> None:
    """Counters of a thousand campaigns that are over: looked at in turns, and none is lost; one
    that counts again is told step by step, as are those of a campaign that is going."""
    clock, metrics = Moved(), Metrics()
    ring = Ring(metrics, lambda: [("on", 1, 5)], clock)
    names = [f"over-{n}" for n in range(1000)]
    looks = Looks(metrics.values)
    metrics.values = looks

    def turn(times: int) -> list[Row]:
        since = clock.at_ms
        for _ in range(times):
            clock.at_ms += STEP_MS
            ring.sample()
        return ring.since(since).rows

    for name in (*names, "on"):
        metrics.add("flashgrab_grabs", (name, "ENDED"))
    assert len(turn(1)[0].grabs) == 1001
    turn(STILL_MS // STEP_MS + ASLEEP_TURNS)
    looks.count = 0
    turn(ASLEEP_TURNS)
    assert looks.count < 2 * (len(names) + ASLEEP_TURNS)  # awake they are 50 times as many
    tally = metrics.tally(("flashgrab_grabs", ("over-7", "ENDED")))
    tally.count += 3
    for name in names:
        metrics.add("flashgrab_grabs", (name, "ENDED"))
    metrics.add("flashgrab_grabs", ("on", "ENDED"))
    found = turn(ASLEEP_TURNS)
    assert found[0].grabs["on"] == {"ENDED": 1}
    told = [(name, row.grabs[name]["ENDED"]) for row in found for name in row.grabs]
    assert dict(told) == dict.fromkeys([*names, "on"], 1) | {"over-7": 4}
    assert len(told) == 1001
    tally.count += 1  # it was told in this minute
    assert turn(1)[0].grabs == {"over-7": {"ENDED": 1}}


class Looks(dict[tuple[str, tuple[str, ...]], float]):
    """Counts how often it is asked."""

    count = 0

    def get(self, *given: Any) -> Any:
        self.count += 1
        return super().get(*given)


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(tcp=True) as started:
        yield started


def recent(gateway: Running, since: int = 0) -> Said:
    answer = gateway.http.get(gateway.metrics_url.replace("/metrics", f"/recent?since={since}"))
    return msgspec.json.decode(answer.content, type=Said)


def counted(said: Said, campaign_id: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for row in said.rows:
        for outcome, count in row.grabs.get(campaign_id, {}).items():
            found[outcome] = found.get(outcome, 0) + count
    return found


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_are_exact_against_known_grabs(server: Valkey, processes: int) -> None:
    """Over HTTP, of one process and of two: every answered grab is in one row, in its time."""
    campaign_id = f"ring-{processes}"
    publish(server, campaign_id, 10)
    began_ms = time.time_ns() // 1_000_000
    with running(environment(server), "--processes", str(processes)) as gateway:
        until("it is known", lambda: gateway.knows(campaign_id))
        statuses = [gateway.grab(campaign_id, f"u{n}").status_code for n in range(14)]
        assert statuses.count(201) == 10
        want = {"GRANTED": 10, "SOLD_OUT": 4}
        until("all rows", lambda: counted(recent(gateway), campaign_id) == want)
        said = recent(gateway)
        rows = [row for row in said.rows if row.grabs]
        assert all(began_ms - STEP_MS <= row.t < said.until for row in rows)
        assert sum(sum(row.seconds) for row in rows) >= 10
        assert min(n for row in said.rows for n in row.left.get(campaign_id, {}).values()) == 0
        # asked from where it ended, it tells nothing twice
        assert not any(row.grabs for row in recent(gateway, said.until).rows)
        parts = [process.part for process in said.processes]
        assert parts == (["gateway"] if processes == 1 else ["gateway (parent)", *["gateway"] * 2])
        assert all(process.cpu_ms > 0 and process.memory > 0 for process in said.processes)
        assert said.until >= said.now_ms - KEPT_MS
