"""What one process of several tells its parent: all of it, and in between what was counted."""

import io
import json
from typing import Any

from flashgrab.telemetry import Metrics
from gateway.family import REPORT_MS
from gateway.reports import COUNTS_MS, RECENT, Reporter, taken

GRANTED, SOLD_OUT = ("flashgrab_grabs", ("c", "GRANTED")), ("flashgrab_grabs", ("c", "SOLD_OUT"))


def lines(out: io.BytesIO) -> list[dict[str, Any]]:
    """What was said since the last time."""
    found = [json.loads(line) for line in out.getvalue().splitlines()]
    out.truncate(0)
    out.seek(0)
    return found


def test_what_is_counted_is_told_at_the_next_tick() -> None:
    """A whole report first and then once a second; in between only what has grown, and nothing
    where nothing has: the parent knows as much as the child after each of them."""
    metrics, out, known = Metrics(), io.BytesIO(), None
    metrics.of("gateway")
    metrics.set("flashgrab_left", ("c", "1"), 9)
    tally = metrics.tally(SOLD_OUT)
    reporter = Reporter(metrics, out)
    ticks = REPORT_MS // COUNTS_MS
    for tick in range(2 * ticks):
        if tick in (1, 2, 7):
            metrics.add(*GRANTED)
            metrics.observe("flashgrab_batch_size", tick)
        if tick == 4:
            tally.count += 3
        reporter.tick()
        said = lines(out)
        assert len(said) == int(tick in (0, 1, 2, 4, 7, ticks))
        for report in said:
            is_whole = report.pop(RECENT, None) is not None
            assert is_whole == (tick % ticks == 0)
            assert is_whole or len(report["values"]) < 40
            known = taken(None if is_whole else known, report)
        assert known is not None
        assert known.values.items() >= metrics.counted().items()
        assert known.histograms == metrics.histograms
        assert known.values["flashgrab_left", ("c", "1")] == 9
    assert known is not None
    assert (known.values[GRANTED], known.values[SOLD_OUT]) == (3, 3)


def test_a_report_changes_nothing_that_was_taken_before() -> None:
    """A scrape may be reading it, in a thread of its own."""
    before = taken(None, {"values": [[GRANTED[0], GRANTED[1], 1]], "histograms": []})
    after = taken(before, {"values": [[GRANTED[0], GRANTED[1], 2]], "histograms": []})
    assert (before.values, after.values) == ({GRANTED: 1}, {GRANTED: 2})
