"""The closing block and the result files."""

import json
from pathlib import Path
from typing import Any

from loadtests.results import caveat, closing, commit, figures, machine, markdown, write
from loadtests.verdict import Check

REPORT: dict[str, Any] = {
    "requests": 6000,
    "buyers": 3000,
    "users": 50,
    "requests_per_second": 1234.5,
    "latency_ms": {"p50": 11, "p95": 22, "p99": 33, "max": 44},
    "repeats": 7,
    "by_second": [4000, 0, 2000],
    "answers": {"GRANTED": 1800, "SOLD_OUT": 2400},
}
RESULT: dict[str, Any] = {
    "at": "2026-11-22T10:00:00Z",
    "ok": False,
    "machine": {"cpu": "A CPU", "cores": "2 cores"},
    "commit": "abc1234",
    "command": "python -m loadtests",
    "shape": "steady",
    "checks": [{"ok": False, "name": "p99 at most 1 ms", "found": "33 ms"}],
    "report": REPORT,
    "ceiling_requests_per_second": 9000.0,
}


def test_the_closing_block_has_a_line_a_check_and_the_caveat() -> None:
    """✓ and ✗, the figures, and what Locust itself can do."""
    lines = closing([Check(True, "one", "1"), Check(False, "three", "3")], REPORT, 9000.0)
    assert lines.splitlines()[:2] == ["✓ one    1", "✗ three  3"]
    assert "6,000 grab requests of 3,000 buyers over 50 connections: 1,234 requests/s" in lines
    assert "Locust itself reached 9,000 requests/s" in lines


def test_a_ceiling_that_was_not_measured_is_said_so() -> None:
    """Never left out."""
    assert "not measured" in caveat(None)


def test_the_files_have_machine_commit_command_and_table(tmp_path: Path) -> None:
    """JSON for programs, Markdown for people, named by the date."""
    path = write(tmp_path / "results", RESULT)
    assert path.name == "2026-11-22T100000Z.md"
    assert json.loads(path.with_suffix(".json").read_text()) == RESULT
    text = path.read_text()
    assert text == markdown(RESULT)
    for words in (
        "- machine: A CPU, 2 cores",
        "- commit: abc1234",
        "- command: `python -m loadtests`",
        "- verdict: FAILED",
        "| ✗ | p99 at most 1 ms | 33 ms |",
        "| SOLD_OUT | 2,400 |",
        figures(REPORT),
    ):
        assert words in text


def test_machine_and_commit_are_told() -> None:
    """Cores and Python at least; outside a checkout the commit is unknown."""
    assert {"cpu", "cores", "system", "python", "load"} == set(machine())
    assert commit(Path("/")) == "unknown"
    assert commit(Path(__file__).parent) != ""
