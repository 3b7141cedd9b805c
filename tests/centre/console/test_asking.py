"""Parts whose clock is not ours."""

import pytest

from centre.console.asking import AHEAD_MS, Asked
from flashgrab.recent import STEP_MS, Process, Row, Said

NOW = 1_800_000_000_000


def said(now_ms: int) -> Said:
    """A gateway that has granted one in its last step; up for 9 s."""
    until = now_ms - now_ms % STEP_MS
    row = Row(until - STEP_MS, {"c": {"GRANTED": 1}})
    process = Process("gateway", 7, "1", now_ms - 9000, 100, 1000)
    return Said("gateway", now_ms, until, [], [row], [process], [])


@pytest.mark.parametrize("ahead_ms", [0, 300, 3_600_000, -3_600_000, 5_000, -1234])
def test_rows_come_to_our_axis(ahead_ms: int) -> None:
    """Whatever the part's clock says; it is asked on by its own."""
    one = Asked("u", "gateway")
    for at in (NOW, NOW + 500, NOW + 1000):
        one.take(said(at + ahead_ms), at - 20, at + 20)
        assert one.said is not None
        assert abs(one.said.rows[0].t - at) <= AHEAD_MS + 2 * STEP_MS
        assert abs(one.said.until - at) <= AHEAD_MS + STEP_MS
        assert abs(one.said.processes[0].up_since_ms - at + 9000) <= AHEAD_MS + STEP_MS
        assert one.until == floor_of(at + ahead_ms)


def test_a_slow_answer_does_not_shake_the_rows() -> None:
    """An answer that took long says little of the clock; what is known of it stays."""
    one = Asked("u", "gateway")
    one.take(said(NOW + 9000), NOW, NOW)
    for slow_ms in (0, 400, 900):
        one.take(said(NOW + 9000), NOW - slow_ms, NOW)
        assert one.ahead_ms == 9000


def floor_of(at_ms: int) -> int:
    return at_ms - at_ms % STEP_MS
