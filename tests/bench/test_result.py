"""The result file and its page."""

from pathlib import Path
from typing import Any

import pytest

from bench import page, result
from bench.result import Result
from tests.bench.samples import result as made_up
from tests.bench.samples import sample


@pytest.fixture
def found() -> Result:
    return made_up()


def test_a_result_is_read_back_as_it_was_written(found: Result, tmp_path: Path) -> None:
    """The JSON holds everything, samples and conditions included."""
    data, text = result.write(found, "the page", tmp_path / "first.json")
    assert result.read(data) == found
    assert text.read_text() == "the page"


def test_a_result_is_named_by_date_and_commit(found: Result) -> None:
    """So that results of several days and commits lie side by side."""
    assert found.name == "2026-11-22-abc1234-dirty"


def test_the_table_has_one_row_a_system_with_median_and_spread(found: Result) -> None:
    """Requests/s and CPU of server (user + system) and Redis."""
    rows = page.table([s for s in found.samples if s.system != "floor"])
    assert rows[2] == (
        "| flashgrab | 64 | always | 2 | 13,000 (12,000…14,000) "
        "| 50.0 (50.0…50.0): 40.0 + 10.0 | 10.0 (10.0…10.0) | 0.05 | 3.50 | 9.00 |"
    )
    assert rows[3].startswith("| textbook | 64 | always | 2 | 5,500 (5,000…6,000) |")
    assert len(rows) == 4


def test_ratios_pair_the_samples_of_a_round(found: Result) -> None:
    """12,000 over 6,000 and 14,000 over 5,000; CPU alone and with Redis; the floor has no fsync."""
    assert page.ratio_table(found.samples, "W1")[2:] == [
        "| textbook | 64 | always | 2.40 (2.00…2.80) | 0.42 (0.38…0.45) | 0.46 (0.43…0.50) |",
        "| floor | 64 | always | 0.16 (0.15…0.17) | 2.25 (2.00…2.50) | 2.70 (2.40…3.00) |",
    ]


AUDIT = {"granted": 10_000, "persisted": 10_000, "invariants": {"I1": True, "I2": True}}


@pytest.mark.parametrize(
    "run,words",
    [
        ([{"audit": {"ok": True, **AUDIT}}], "**books ok** (I1, I2)"),
        ([{"audit": {"ok": False, **AUDIT}}], "**BOOKS NOT OK** (I1, I2)"),
        ([{}], "No run against the whole stack."),
    ],
)
def test_the_verdict_of_the_audit_is_in_the_page(run: list[dict[str, Any]], words: str) -> None:
    """Good, bad, or none."""
    assert words in "\n".join(page.verdicts(run))


def test_the_page_says_where_it_was_measured_and_what_was_not(found: Result) -> None:
    """What a reader needs to judge the figures or repeat them."""
    text = page.markdown(found)
    for words in (
        "2 cores",
        "Python 3.11.7",
        "abc1234-dirty",
        "`python -m bench.grabs`",
        "skipped: go-batched: Go is not on PATH",
        "wrk's own ceiling: 80,000 requests/s",
    ):
        assert words in text


def test_workloads_have_tables_of_their_own(found: Result) -> None:
    """W2 beside W1, each with its rows only."""
    storm = [sample("flashgrab", n, 40000, 20.0, "W2") for n in (1, 2)]
    text = page.markdown(Result(**{**vars_of(found), "samples": [*found.samples, *storm]}))
    first, second = text.split("## W2")
    assert "12,000…14,000" in first
    assert "40,000 (40,000…40,000)" in second


def vars_of(found: Result) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Result.__dataclass_fields__}
