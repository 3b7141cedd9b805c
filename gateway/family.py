"""What a parent knows of its processes' last two minutes: their rows as one, and who they are."""

import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from flashgrab.recent import Joined, Own, Process, Said, bounds, told_values
from flashgrab.telemetry import Metrics

REPORT_MS = 1000
"""How often a process reports to its parent (gateway/serve.py)."""


class Family:
    """The parent's /recent. Its rows are the sums over its processes, the counts of dead ones
    included as far as they reported. May be asked from any thread."""

    def __init__(self, own: Metrics, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._self = Own("gateway (parent)", own)
        self._snapshot = snapshot
        self._joined = Joined(late_ms=2 * REPORT_MS)
        self._processes: dict[int, Process] = {}
        self._lock = threading.Lock()

    def take(self, pid: int, report: Any) -> None:
        """What a process has said since its last report."""
        said = msgspec.convert(report, Said)
        with self._lock:
            self._processes[pid] = said.processes[0]
            self._joined.take(pid, said.until, said.rows)
            self._joined.close(said.now_ms)

    def gone(self, pid: int) -> None:
        """It has ended."""
        with self._lock:
            self._processes.pop(pid, None)
            self._joined.gone(pid)

    def say(self, since_ms: int) -> Said:
        """The answer of /recent."""
        now_ms = time.time_ns() // 1_000_000
        values = told_values(self._snapshot())
        with self._lock:
            self._joined.close(now_ms)
            until, rows = self._joined.since(since_ms)
            processes = [self._self.process(), *self._processes.values()]
        return Said("gateway", now_ms, until, bounds(), rows, processes, values)
