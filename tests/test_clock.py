"""clock.py: times there and back."""

import time

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flashgrab.clock import SystemClock, from_rfc3339, to_rfc3339


@given(st.integers(0, 253_402_300_799_999))
def test_there_and_back(at_ms: int) -> None:
    """Every millisecond from 1970 to the year 9999 comes back as itself."""
    assert from_rfc3339(to_rfc3339(at_ms)) == at_ms


@pytest.mark.parametrize(
    "text,at_ms",
    [
        ("2026-11-22T10:00:00+08:00", 1_795_312_800_000),
        ("2026-11-22T02:00:00Z", 1_795_312_800_000),
        ("2026-11-22T02:00:00.5Z", 1_795_312_800_500),
        ("2026-11-22T02:00:00.999999Z", 1_795_312_800_999),
        ("1969-12-31T23:59:59.250Z", -750),
    ],
)
def test_offsets_and_fractions(text: str, at_ms: int) -> None:
    """Offsets count, fractions are cut to the millisecond, also before 1970."""
    assert from_rfc3339(text) == at_ms


@pytest.mark.parametrize("text", ["2026-11-22T10:00:00", "2026-11-22", "soon", "", "10:00+08:00"])
def test_without_an_offset(text: str) -> None:
    """A time that nobody can place is a ValueError."""
    with pytest.raises(ValueError, match=r"offset|isoformat"):
        from_rfc3339(text)


def test_system_clock() -> None:
    """The machine's wall clock and monotonic clock, both in ms."""
    clock = SystemClock()
    assert abs(clock.now_ms() - time.time() * 1000) < 1000
    assert abs(clock.monotonic_ms() - time.monotonic() * 1000) < 1000
