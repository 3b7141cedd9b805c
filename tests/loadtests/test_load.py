"""`python -m loadtests`: its options, what it runs against, and one small run of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtests import stack
from loadtests.__main__ import main, read_arguments, read_ceiling
from tests.e2e.running import Stack

ROOT = Path(__file__).parents[2]


def test_the_quota_is_60_percent_unless_given() -> None:
    """Of the buyers, at least one."""
    assert read_arguments(["--buyers", "1000"]).quota == 600
    assert read_arguments(["--buyers", "1"]).quota == 1
    assert read_arguments(["--quota", "7"]).quota == 7


@pytest.mark.parametrize(
    "words", [["--buyers", "0"], ["--users", "1001"], ["--quota", "0"], ["--run-time", "0"]]
)
def test_load_is_bounded(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Too much and nothing at all are wrong uses."""
    with pytest.raises(SystemExit) as ended:
        read_arguments(words)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_nothing_running_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, and what to start."""
    assert main(["--data", str(tmp_path)]) == 2
    assert "start `flashgrab up --demo" in capsys.readouterr().err


def test_a_stack_is_up_while_its_up_lives(tmp_path: Path) -> None:
    """By the process id of `up` in run.json; no file, no JSON and no such process are none."""
    assert not stack.is_up(tmp_path)
    file = tmp_path / "run.json"
    for text, expected in (
        ("{", False),
        ("{}", False),
        (json.dumps({"up": [{"pid": 2**22 + 1}]}), False),
        (json.dumps({"up": [{"pid": os.getpid()}]}), True),
    ):
        file.write_text(text)
        assert stack.is_up(tmp_path) is expected


def test_the_ceiling_is_read_from_locusts_statistics(tmp_path: Path) -> None:
    """Requests over seconds; nothing where Locust wrote nothing."""
    stats = tmp_path / "stats"
    assert read_ceiling(stats) is None
    row = {"num_requests": 300, "start_time": 10.0, "last_request_timestamp": 12.0}
    stats.with_suffix(".json").write_text(json.dumps([row]))
    assert read_ceiling(stats) == 150.0


def run(running: Stack, results: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A small load test against a running stack."""
    command = [sys.executable, "-m", "loadtests", "--data", str(running.data)]
    command += ["--buyers", "60", "--users", "10", "--results", str(results), *words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )


@pytest.mark.slow
@pytest.mark.xdist_group("stack")
def test_a_small_load_test_passes(running_stack: Stack, tmp_path: Path) -> None:
    """Sixty buyers, 36 coupons, one Locust: every check ✓, exit 0, the result files written."""
    done = run(running_stack, tmp_path, "--p99-ms", "5000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("✓") == 6
    assert "Locust itself reached" in done.stdout
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    assert result["report"]["granted"] == 36
    assert result["report"]["answers"]["REPLAYED"] == 36
    assert result["ceiling_requests_per_second"] > 0
    assert result["audit"]["ok"]
    assert file.with_suffix(".md").exists()


@pytest.mark.slow
@pytest.mark.xdist_group("stack")
def test_a_drop_passes(running_stack: Stack, tmp_path: Path) -> None:
    """The same buyers in the shape of a drop: all served, the books right, the shape said."""
    done = run(running_stack, tmp_path, "--shape", "drop", "--p99-ms", "5000", "--no-ceiling")
    assert done.returncode == 0, done.stdout + done.stderr
    (file,) = tmp_path.glob("*.json")
    result = json.loads(file.read_text())
    assert result["report"]["granted"] == 36
    assert sum(result["report"]["by_second"]) == result["report"]["requests"] >= 120
    page = file.with_suffix(".md").read_text()
    assert "- shape: drop: 1 users before the opening, 10 from its second on" in page


@pytest.mark.slow
@pytest.mark.xdist_group("stack")
def test_a_missed_threshold_is_bad_news(running_stack: Stack, tmp_path: Path) -> None:
    """A p99 that cannot be kept: ✗ at that line alone, and exit 1."""
    done = run(running_stack, tmp_path, "--p99-ms", "0.001", "--no-ceiling")
    assert done.returncode == 1, done.stdout + done.stderr
    wrong = [line for line in done.stdout.splitlines() if line.startswith("✗")]
    assert len(wrong) == 1
    assert wrong[0].startswith("✗ p99 at most 0.001 ms")
