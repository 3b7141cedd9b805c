"""The result file."""

from pathlib import Path

import pytest

from bench import result
from bench.figures import Spread
from bench.result import Condition, Result, Sample

C64 = Condition(64, "always")


def sample(system: str, round_: int, per_second: int, server_us: float = 50.0) -> Sample:
    return Sample(
        system=system,
        condition=C64,
        round=round_,
        requests=per_second * 2,
        seconds=2.0,
        server_user_us=server_us - 10,
        server_system_us=10.0,
        redis_us=10.0,
        p50_ms=3.5,
        p99_ms=9.0,
        others=0.05,
    )


@pytest.fixture
def found() -> Result:
    return Result(
        date="2026-11-22T10:00:00+00:00",
        commit="abc1234-dirty",
        command="python -m bench.grabs",
        cores="not pinned",
        audit={
            "ok": True,
            "granted": 40000,
            "persisted": 40000,
            "per_second": 10000.0,
            "invariants": {"I1": True, "I2": True},
        },
        samples=[
            sample("flashgrab", 1, 12000),
            sample("textbook", 1, 6000, 110.0),
            sample("flashgrab", 2, 14000),
            sample("textbook", 2, 5000, 130.0),
        ],
        machine={"machine": "2 cores"},
        versions={"Python": "3.11.7"},
    )


def test_a_result_is_read_back_as_it_was_written(found: Result, tmp_path: Path) -> None:
    """The JSON holds everything, samples and conditions included."""
    data, page = result.write(found, tmp_path / "first.json")
    assert result.read(data) == found
    assert page.read_text() == result.markdown(found)


def test_a_result_is_named_by_date_and_commit(found: Result) -> None:
    """So that results of several days and commits lie side by side."""
    assert found.name == "2026-11-22-abc1234-dirty"


def test_the_table_has_one_row_a_system_with_median_and_spread(found: Result) -> None:
    """Requests/s and CPU of server (user + system) and Redis."""
    rows = result.table(found.samples)
    assert rows[2] == (
        "| flashgrab | 64 | always | 2 | 13,000 (12,000…14,000) "
        "| 50.0 (50.0…50.0): 40.0 + 10.0 | 10.0 (10.0…10.0) | 3.50 | 9.00 |"
    )
    assert rows[3].startswith("| textbook | 64 | always | 2 | 5,500 (5,000…6,000) |")
    assert len(rows) == 4


def test_ratios_pair_the_samples_of_a_round(found: Result) -> None:
    """12,000 over 6,000 and 14,000 over 5,000; CPU is that of server and Redis."""
    speed, cpu = result.compare(found.samples, C64, "flashgrab", "textbook")
    assert speed == Spread(2.4, 2.0, 2.8)
    assert cpu == Spread((60 / 120 + 60 / 140) / 2, 60 / 140, 60 / 120)


@pytest.mark.parametrize(
    "audit,words",
    [
        ({"ok": True}, "**books ok** (I1, I2)"),
        ({"ok": False}, "**BOOKS NOT OK** (I1, I2)"),
        ({"skipped": "--quick"}, "No run against the whole stack: --quick."),
    ],
)
def test_the_verdict_of_the_audit_is_in_the_page(
    found: Result, audit: dict[str, object], words: str
) -> None:
    """Good, bad, or why there is none."""
    assert words in result.audit_line({**found.audit, **audit})


def test_the_page_names_machine_versions_commit_and_command(found: Result) -> None:
    """What a reader needs to judge the figures or repeat them."""
    page = result.markdown(found)
    for words in ("2 cores", "Python 3.11.7", "abc1234-dirty", "`python -m bench.grabs`"):
        assert words in page
