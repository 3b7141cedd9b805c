"""Children of a benchmark."""

import os
import sys
import time
from pathlib import Path

import pytest

from bench import textbook
from bench.passes import sign
from bench.processes import BadRun, cpu_of, pinned, running, share_cores, wait_for_port


def test_a_child_ends_with_its_block(tmp_path: Path) -> None:
    """Nothing that a benchmark started runs on after it."""
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    with running(sleeper, os.environ, tmp_path / "log", ()) as child:
        assert child.poll() is None
    assert child.returncode is not None


def test_a_child_that_does_not_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """The reason is in the error, not in a file that is deleted with the run."""
    log = tmp_path / "log"
    with (
        running([sys.executable, "-c", "raise SystemExit('no luck')"], {}, log, ()) as child,
        pytest.raises(BadRun, match="no luck"),
    ):
        wait_for_port(child, 1, log)


def test_cpu_of_a_process_grows_as_it_works() -> None:
    """User and system time of this very process, over at least two ticks of work."""
    before = cpu_of(os.getpid())
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    spent = cpu_of(os.getpid()) - before
    assert 0.02 < spent.total < 5


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin")
def test_pinning_holds_inside_the_block_only() -> None:
    """What starts inside inherits it; the benchmark itself is free again afterwards."""
    before = os.sched_getaffinity(0)
    one = {min(before)}
    with pinned(one):
        assert os.sched_getaffinity(0) == one
    assert os.sched_getaffinity(0) == before


def test_the_server_shares_its_core_with_nobody() -> None:
    """Where there are two cores or more; else nothing is pinned."""
    cores = share_cores()
    assert not cores.server or cores.server.isdisjoint(cores.redis | cores.driver)


def test_the_textbook_takes_its_own_passes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Signed and in time; not altered, not expired, not of another key."""
    monkeypatch.setattr(textbook, "KEY", b"k" * 40)
    token = sign(b"k" * 40, "bench", "u1", 1 << 40)
    assert textbook.check(token) == ("bench", "u1")
    assert textbook.check(token.replace("u1", "u2")) is None
    assert textbook.check(sign(b"x" * 40, "bench", "u1", 1 << 40)) is None
    assert textbook.check(sign(b"k" * 40, "bench", "u1", 1)) is None
