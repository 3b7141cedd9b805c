"""Freezing a process: SIGSTOP, and back only when it really stands still."""

import os
import signal
import time
from pathlib import Path

WITHIN_S = 10


def freeze(pid: int) -> None:
    """Stop every thread. The signal alone is not enough: on a busy machine a thread that has
    not been told yet still answers what comes a moment later."""
    os.kill(pid, signal.SIGSTOP)
    ends = time.monotonic() + WITHIN_S
    while not _stands_still(pid):
        assert time.monotonic() < ends, f"process {pid} does not stop"
        time.sleep(0.001)


def thaw(pid: int) -> None:
    """Let it go on."""
    os.kill(pid, signal.SIGCONT)


def _stands_still(pid: int) -> bool:
    """Whether the kernel shows every thread as stopped (T)."""
    threads = Path(f"/proc/{pid}/task").iterdir()
    return all((t / "stat").read_text().rpartition(")")[2].split()[0] in "TX" for t in threads)
