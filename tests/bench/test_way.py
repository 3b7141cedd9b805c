"""The whole way: its page, and one short run of it."""

import json
from pathlib import Path

import pytest

from bench import way, wrk
from bench.way import HOPS, Result, Sample, markdown
from tests.conftest import require


def sample(connections: int, number: int, us: float) -> Sample:
    return Sample(
        connections=connections,
        round=number,
        grants=10_000,
        granting_s=1.0,
        seconds=2.0,
        persisted=9000,
        p50_ms=1.0,
        p99_ms=5.0,
        user_us=dict.fromkeys(HOPS, us),
        system_us=dict.fromkeys(HOPS, 1.0),
        others=0.1,
    )


def result(*samples: Sample, ok: bool = True) -> Result:
    return Result("2026-11-23T10:00:00", "abc", "python -m bench.way", "Kafka", ok, list(samples))


def test_the_page_has_a_row_a_hop_and_their_sum() -> None:
    """Medians over the rounds of each width; six hops of 4 + 1 µs are 30."""
    page = markdown(result(*(sample(w, n, 3.0 + n) for w in (64, 256) for n in (0, 1, 2))))
    for hop in HOPS:
        assert f"| {hop} | 5.00 (4.00…6.00), 4.0 + 1.0 | 5.00 (4.00…6.00), 4.0 + 1.0 |" in page
    assert "| **all** | 30.0 (24.0…36.0) | 30.0 (24.0…36.0) |" in page
    assert "| granted/s | 10,000 (10,000…10,000) |" in page
    assert "| persisted/s, to the last one | 5,000 (5,000…5,000) |" in page


def test_the_target_is_for_every_width() -> None:
    """One that misses it is enough; and bad books are said."""
    good, bad = sample(64, 1, 7.0), sample(256, 1, 8.0)
    assert "at most 50 µs: **reached**" in markdown(result(good))
    page = markdown(result(good, bad, ok=False))
    assert "at most 50 µs: **missed**" in page
    assert "**books NOT OK**" in page


@pytest.mark.slow
@pytest.mark.xdist_group("stack")
def test_a_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second at one width, embedded broker: every hop has its CPU, the books are right."""
    require(None if wrk.available() else wrk.MISSING)
    monkeypatch.setattr(way, "WIDTHS", (16,))
    monkeypatch.setattr(way, "WARM_UP_S", 1)
    words = ["--kafka", "embedded", "--rounds", "1", "--seconds", "1"]
    assert way.main([*words, "--out", str(tmp_path / "way.json")]) == 0
    found = json.loads((tmp_path / "way.json").read_text())
    (only,) = found["samples"]
    assert found["ok"]
    assert only["grants"] > 0
    assert all(only["user_us"][hop] + only["system_us"][hop] > 0 for hop in HOPS)
    assert (tmp_path / "way.md").exists()
