"""Rows of several processes on one axis: summed, final once, and nothing is ever lost."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from flashgrab.recent import LATE_MS, STEP_MS, Joined, Own, Row, by_our_clock, encoded, floor
from flashgrab.telemetry import Metrics

T = 1_800_000_000_000


def row(step: int, granted: int, **more: object) -> Row:
    return msgspec.convert(
        {"t": T + step * STEP_MS, "grabs": {"c": {"GRANTED": granted}}} | more, Row
    )


def total(rows: list[Row]) -> int:
    return sum(one.grabs["c"]["GRANTED"] for one in rows if one.grabs)


def test_two_processes_are_summed() -> None:
    """Counts and buckets are added; of what is left the lower value counts, which is newer."""
    joined = Joined()
    mine = row(0, 3, seconds=[1, 2], calls=1, requests=3, left={"c": {"1": 97}})
    yours = row(0, 4, seconds=[0, 5], calls=2, requests=4, left={"c": {"1": 93}})
    joined.take("a", T + STEP_MS, [mine])
    assert joined.close(T + STEP_MS) != []  # nobody else is known
    joined = Joined()
    joined.take("a", T + STEP_MS, [mine])
    joined.take("b", T + STEP_MS, [yours])
    want = row(0, 7, seconds=[1, 7], calls=3, requests=7, left={"c": {"1": 93}})
    assert joined.close(T + STEP_MS) == [want]
    assert joined.since(T).rows == [want]


def test_a_row_waits_for_who_is_behind_but_not_for_long() -> None:
    """Final once all have passed it, or LATE_MS later; one that is gone is not waited for."""
    joined = Joined()
    joined.take("a", T + 5 * STEP_MS, [row(0, 1)])
    joined.take("b", T, [])
    assert joined.close(T + 5 * STEP_MS) == []
    assert total(joined.close(T + LATE_MS + STEP_MS)) == 1
    joined.take("a", T + 40 * STEP_MS, [row(35, 1)])
    joined.gone("b")
    assert total(joined.close(T + 40 * STEP_MS)) == 1


def test_a_clock_ahead_does_not_take_the_axis_with_it() -> None:
    """A source that is an hour ahead: rows of now are final now, not frozen until its hour."""
    joined = Joined()
    joined.take("a", T + 3_600_000, [row(36_000, 1)])
    assert joined.close(T) == []
    assert joined.until == T
    joined.take("b", T + STEP_MS, [row(0, 2)])
    assert total(joined.close(T + STEP_MS)) == 2


def test_what_was_said_by_another_clock_is_moved_to_ours() -> None:
    """Rows, `until` and starts by the difference, in whole steps, so that rows stay on the axis."""
    metrics = Metrics()
    said = Own("gateway", metrics).say(0)
    said.rows, said.until = [row(36_000, 1)], T + 3_600_100
    up_since = said.processes[0].up_since_ms
    moved = by_our_clock(said, 3_600_050)
    assert ([one.t for one in moved.rows], moved.until) == ([T], T + STEP_MS)
    assert moved.processes[0].up_since_ms == up_since - 3_600_000


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.integers(0, 60),
            st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=4),
        ),
        max_size=30,
    )
)
def test_no_count_is_lost_or_told_twice(told: list[tuple[str, int, list[tuple[int, int]]]]) -> None:
    """Whatever comes late, out of order, or after its row was final."""
    joined, found, now, given_ = Joined(), 0, 0, 0
    for source, step, rows in told:
        joined.take(source, T + step * STEP_MS, [row(at, count) for at, count in rows])
        given_ += sum(count for _, count in rows)
        now = max(now, step)
        found += total(joined.close(T + now * STEP_MS))
    found += total(joined.close(T + 10**6))
    assert found == given_


def test_recent_tells_what_a_part_is() -> None:
    """Its process by its own count, and the values of the closed list; any query is taken."""
    metrics = Metrics()
    metrics.set("flashgrab_relay_lag_seconds", value=1.5)
    metrics.add("flashgrab_resends")
    for query in ("", "since=5", "since=-1", "since=x", "a=b&since=5", "since=" + "9" * 40):
        said = msgspec.json.decode(encoded(Own("relay", metrics).say, query))
        assert said["part"] == said["processes"][0]["part"] == "relay"
        assert ["flashgrab_relay_lag_seconds", [], 1.5] in said["values"]
        assert not any(name == "flashgrab_resends" for name, _, _ in said["values"])
        assert said["processes"][0]["cpu_ms"] > 0
        assert said["until"] == floor(said["now_ms"])
