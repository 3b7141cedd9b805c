"""The comparison of bench/metering.py, without valgrind."""

from pathlib import Path

import pytest

from bench.metering import Traced, Unmetered, ratios
from bench.passes import Blake2Passes
from bench.serving import serving
from tests.bench.conftest import ANYWHERE


def test_both_sides_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Medians of each workload, as it is over the other; one that was not counted is left out."""
    seen = {"W1 as it is": [102.0, 500.0, 101.0], "W1 metrics off": [100.0], "W2 as it is": [1.0]}
    ratios(seen, "metrics off")
    assert capsys.readouterr().out == "W1: as it is / metrics off = 1.0200\n"


@pytest.mark.parametrize("kind", [Unmetered, Traced])
def test_the_other_side_grabs(kind: type[Unmetered | Traced], tmp_path: Path) -> None:
    """It is a gateway like ours: it grants and replays."""
    system, file = kind(Blake2Passes()), tmp_path / "passes"
    system.passes.mint(file, 1, "u")
    token = file.read_text().strip()
    with serving(system, "no", 5, ANYWHERE) as server:
        assert server.grab(token, "k")[0] == 201
        assert server.grab(token, "k")[0] == 200
