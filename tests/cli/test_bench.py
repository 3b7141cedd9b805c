"""`flashgrab bench`: finds the checkout's benchmarks, or says where they are."""

from pathlib import Path

import pytest

from flashgrab.cli import bench
from flashgrab.cli.failure import Failure

STAND_IN = """
import pathlib
import sys

pathlib.Path("seen").write_text(" ".join(sys.argv[1:]))
sys.exit(1)
"""


def test_without_a_checkout_it_says_where_the_benchmarks_are(tmp_path: Path) -> None:
    """Exit 2 with one line naming the checkout."""
    with pytest.raises(Failure, match="part of a checkout"):
        bench.run(tmp_path, quick=True, out=None)


def test_it_passes_its_flags_on_and_returns_the_status(tmp_path: Path) -> None:
    """A stand-in bench/ sees --quick and the whole path of --out; its status comes back."""
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "__init__.py").touch()
    (tmp_path / "bench" / "grabs.py").write_text(STAND_IN)
    out = tmp_path / "result"
    assert bench.run(tmp_path, quick=True, out=out) == 1
    assert (tmp_path / "seen").read_text() == f"--quick --out {out}"
