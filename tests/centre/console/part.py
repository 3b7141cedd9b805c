"""A part that tells what a test wants: a real /recent, its rows made by hand."""

import time
from dataclasses import dataclass, field
from typing import Any

from flashgrab.recent import KEPT_MS, STEP_MS, Own, Row, Told, floor
from flashgrab.telemetry import Metrics, serve_metrics


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Answers by outcome, of rows as pages get them."""
    found: dict[str, int] = {}
    for row in rows:
        for outcome, count in row.get("grabs", {}).items():
            found[outcome] = found.get(outcome, 0) + count
    return found


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass
class Part:
    """Its address is a setting of the centre."""

    part: str = "gateway"
    metrics: Metrics = field(default_factory=Metrics)
    made: list[Row] = field(default_factory=list)
    url: str = ""

    def start(self) -> "Part":
        self.metrics.rows = self._since
        port = serve_metrics(0, self.metrics.snapshot, say=Own(self.part, self.metrics).say)
        self.url = f"http://127.0.0.1:{port}/metrics"
        return self

    def counted(self, campaign_id: str, outcome: str, count: int, **more: object) -> None:
        """As if it had just answered so many."""
        t = floor(now_ms()) - STEP_MS
        self.made.append(Row(t, {campaign_id: {outcome: count}}, **more))  # type: ignore[arg-type]

    def _since(self, since_ms: int) -> Told:
        until = floor(now_ms()) - STEP_MS // 2
        since_ms = max(since_ms, until - KEPT_MS)
        until -= until % STEP_MS
        return Told(until, [row for row in list(self.made) if since_ms <= row.t < until])
