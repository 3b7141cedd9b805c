"""How times look to an operator."""

import time
from collections.abc import Iterator

import pytest

from flashgrab.cli.tables import local_and_utc


@pytest.fixture(params=["Asia/Shanghai", "UTC", "America/Los_Angeles"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield str(request.param)
    monkeypatch.undo()
    time.tzset()


def test_times_are_local_and_utc(zone: str) -> None:
    """Local time with its offset, then UTC; the date of UTC where it is another day."""
    assert (
        local_and_utc("2026-11-22T02:00:00.000Z")
        == {
            "Asia/Shanghai": "2026-11-22 10:00:00 +0800 (02:00:00Z)",
            "UTC": "2026-11-22 02:00:00 +0000 (02:00:00Z)",
            "America/Los_Angeles": "2026-11-21 18:00:00 -0800 (2026-11-22 02:00:00Z)",
        }[zone]
    )


def test_no_time_is_a_dash() -> None:
    """A DRAFT has no times yet."""
    assert local_and_utc(None) == "-"
