"""scripts/tests.py: what failed beside others runs once more by itself, if it is not too much."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "tests.py"
AT_SECOND = """
import pathlib, pytest
@pytest.mark.xdist_group("some group")
@pytest.mark.parametrize("n", range({count}))
def test_waits_too_short(n):
    before = pathlib.Path(f"run{{n}}")
    seen = before.exists()
    before.touch()
    assert seen
def test_well():
    pass
"""
NEVER = "def test_wrong():\n    assert False\n"
BROKEN = "import nothing_of_this_name\n"


def run(folder: Path, text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "test_it.py").write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    one_plugin = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "xdist.plugin"}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, **one_plugin},
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("-n", "2", "--dist", "loadgroup")])
def test_what_passes_alone_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    """Exit 0, and the names of those that need a look."""
    done = run(tmp_path, AT_SECOND.format(count=2), *arguments)
    assert done.returncode == 0, done.stdout
    assert "2 of them once more" in done.stdout
    assert "test_it.py::test_waits_too_short[1]" in done.stdout.partition("passed alone")[2]


def test_folder_by_folder() -> None:
    """In any other order pytest does not find the fixtures of a folder that it has left."""
    place = runpy.run_path(str(SCRIPT))["place"]
    noted = ["t/b/c/test_1.py::x", "t/a/test_2.py::x[t/z]", "t/b/test_1.py::x", "t/a/test_1.py::x"]
    assert sorted(noted, key=place) == [noted[3], noted[1], noted[2], noted[0]]


def test_what_fails_alone_fails_the_run(tmp_path: Path) -> None:
    """Exit 1."""
    done = run(tmp_path, AT_SECOND.format(count=1) + NEVER)
    assert done.returncode == 1, done.stdout
    assert "passed alone" not in done.stdout


def test_many_failures_are_no_accident(tmp_path: Path) -> None:
    """Nine are not run again, though they would pass."""
    done = run(tmp_path, AT_SECOND.format(count=9))
    assert done.returncode == 1, done.stdout
    assert "9 tests failed: more than 8 are not run again" in done.stdout


@pytest.mark.parametrize("text, status", [(BROKEN, 2), ("", 5)])
def test_other_ends_are_passed_on(tmp_path: Path, text: str, status: int) -> None:
    """What cannot be collected, or is no test, is no matter of load."""
    assert run(tmp_path, text).returncode == status


def test_all_well(tmp_path: Path) -> None:
    """Exit 0 at once."""
    done = run(tmp_path, "def test_well():\n    pass\n")
    assert (done.returncode, "once more" in done.stdout) == (0, False)
