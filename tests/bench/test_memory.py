"""The memory benchmark, small: its figures make sense, its verdicts are those of its targets."""

from dataclasses import replace
from pathlib import Path

import pytest

from bench import holders, idle, memory, wrk
from bench.passes import Blake2Passes
from bench.processes import open_files
from bench.systems.ours import Ours
from tests.bench.conftest import ANYWHERE
from tests.conftest import require

HELD, IDLE = 5000, 300


@pytest.mark.slow
def test_a_small_run(tmp_path: Path) -> None:
    """A few thousand holders and a few hundred idle connections, measured and put on a page."""
    require(None if wrk.available() else wrk.MISSING)
    open_files()
    ours = Ours(Blake2Passes())
    held = holders.measure(ours, tmp_path, ANYWHERE, HELD)
    assert 50 < held.hash < held.redis_lasting < held.redis < 500
    assert held.answered == HELD
    load = idle.Load(idle=IDLE, rounds=1, seconds=1, fsync="no", cores=ANYWHERE)
    connections = idle.measure(ours, tmp_path, load)
    assert [s.idle for s in connections.active] == [0, IDLE]
    assert all(s.per_second > 0 for s in connections.active)
    found = memory.Result("2026-11-23", "abc", "command", "none", connections, held)
    page = memory.page(found)
    assert f"## {HELD:,} holders" in page
    assert f"| {IDLE:,} | 1 |" in page
    alone, beside = connections.active
    slow = [replace(alone, p99_ms=2.0), replace(beside, p99_ms=3.1, rss_mb=199.0)]
    worse = replace(found, connections=replace(connections, active=slow))
    assert [reached for _, _, reached in memory.verdicts(worse)] == [True, False]
    fat = [slow[0], replace(slow[1], p99_ms=3.0, rss_mb=200.0)]
    worse = replace(found, connections=replace(connections, active=fat))
    assert [reached for _, _, reached in memory.verdicts(worse)] == [False, True]
