"""Results accumulate, and the table counts them."""

from pathlib import Path

from tests.faults import results
from tests.faults.table import table

RUN = {"verdict": "ok", "acknowledged": 1000, "lost": 0, "doubled": 0}


def test_results_accumulate_and_are_read_again(tmp_path: Path) -> None:
    """One line a run, whatever scenario."""
    records = [{"scenario": name, "seed": n} for name in ("F1", "F2") for n in range(3)]
    for record in records:
        results.append(str(record["scenario"]), record, tmp_path)
    assert list(results.read(tmp_path)) == records


def test_circumstances_name_commit_and_machine() -> None:
    """Without them a figure means nothing."""
    found = results.circumstances()
    assert found["commit"] != "?"
    assert "cores" in found["machine"]


def test_the_table_adds_up() -> None:
    """Runs of one fault in one line; a run that showed nothing is not counted."""
    text = table(
        [
            {**RUN, "scenario": "F1"},
            {**RUN, "scenario": "F1", "verdict": "violations", "lost": 2},
            {"scenario": "F1", "verdict": "not reached"},
            {"scenario": "F1", "verdict": "failed"},
            {**RUN, "scenario": "F2", "serve_ms": {"relay": 30, "worker-1": 40}},
            {**RUN, "scenario": "F2", "serve_ms": {"relay": 50, "worker-1": 20}},
            {**RUN, "scenario": "F10", "fault": "redis data deleted"},
        ]
    )
    assert text.splitlines()[2:] == [
        "| F1 | all |  | 2 | 1 | 2,000 | 2 | 0 |  |",
        "| F1 | all | did not come to its end | 1 | 0 | 0 | 0 | 0 |  |",
        "| F2 | I7 | kill relay | 2 | 2 | 2,000 | 0 | 0 | 30, 50 |",
        "| F2 | I7 | kill worker-1 | 2 | 2 | 2,000 | 0 | 0 | 20, 40 |",
        "| F10 | I1, I7 | redis data deleted | 1 | 1 | 1,000 | 0 | 0 |  |",
    ]
