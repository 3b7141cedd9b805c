"""What one process of several tells its parent, a JSON line each: everything once a second, and in
between what has been counted since, so that hardly a count is lost with a process that is killed.
"""

import threading
from typing import Any, BinaryIO

from msgspec.json import encode

from flashgrab.recent import Own
from flashgrab.telemetry import Key, Metrics
from gateway.family import REPORT_MS

COUNTS_MS = 100
RECENT = "recent"
"""Only a whole report has it."""


class Reporter:
    """The child's side. May be called from several threads."""

    def __init__(self, metrics: Metrics, out: BinaryIO) -> None:
        self._metrics = metrics
        self._out = out
        self._own = Own("gateway", metrics)
        self._saying = threading.Lock()
        self._told_until = 0
        self._ticks = 0
        self._mark = 0.0
        self._counters: dict[Key, float] = {}

    def tick(self) -> None:
        """Every COUNTS_MS. The first report is a whole one."""
        if self._ticks % (REPORT_MS // COUNTS_MS) == 0:
            self.whole()
        elif (mark := self._metrics.mark()) != self._mark:
            self._mark = mark
            with self._saying:
                self._say(self._counted())
        self._ticks += 1

    def whole(self) -> None:
        """Everything, also what is no count."""
        with self._saying:
            recent = self._own.say(self._told_until)
            self._told_until = recent.until
            self._say(self._metrics.snapshot() | {RECENT: recent})

    def _counted(self) -> dict[str, Any]:
        """Counters that have changed, and all histograms: there are few."""
        before, self._counters = self._counters, self._metrics.counted()
        grown = [
            [name, labels, value]
            for (name, labels), value in self._counters.items()
            if before.get((name, labels)) != value
        ]
        return {"values": grown, "histograms": self._metrics.observed()}

    def _say(self, report: dict[str, Any]) -> None:
        self._out.write(encode(report) + b"\n")
        self._out.flush()


def taken(before: Metrics | None, report: dict[str, Any]) -> Metrics:
    """The parent's side: all that a process has said, after one more report without RECENT."""
    now = Metrics()
    if before is not None:
        now.values, now.histograms = dict(before.values), dict(before.histograms)
    now.replace(report)
    return now
