"""A measurement, as short as wrk allows."""

from pathlib import Path

import pytest

from bench import curve, requests, wrk
from bench.measure import Bench, check_answers
from bench.passes import Blake2Passes
from bench.processes import BadRun
from bench.result import Condition
from bench.systems.floor import Floor
from bench.systems.ours import Ours
from tests.bench.conftest import ANYWHERE
from tests.conftest import require


def test_a_point_of_the_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One second of ours: as many grants as answers, batches, CPU of gateway and Redis."""
    require(None if wrk.available() else wrk.MISSING)
    monkeypatch.setattr(requests, "WARM", 10_000)
    monkeypatch.setattr(requests, "USERS_RATE", 40_000)
    point = Bench(tmp_path, 1, [16], ANYWHERE).point(Ours(Blake2Passes()), 16, "always", 1)
    assert point.requests > 0
    assert 0 < point.script_calls < 1
    assert point.server_us > 0
    assert point.redis_us > 0
    assert curve.table([point])[2].startswith("| 16 | 1 |")


def seen(requests_: int, refused: int, broken: int = 0) -> wrk.Figures:
    return wrk.Figures(requests_, 1.0, refused, broken, 1, 1)


@pytest.mark.parametrize(
    "workload,figures,granted",
    [
        ("W1", seen(1000, 1), 1000),
        ("W1", seen(1000, 0), 999),
        ("W1", seen(1000, 0), 1065),
        ("W1", seen(1000, 0, broken=1), 1000),
        ("W1", seen(0, 0), 0),
        ("W2", seen(1000, 1000), 1),
        ("W2", seen(1000, 500), 0),
        ("W3", seen(1000, 1000), 0),
    ],
)
def test_answers_that_do_not_fit_the_workload_are_a_bad_run(
    workload: str, figures: wrk.Figures, granted: int
) -> None:
    """Refused, lost, uncounted, granted though sold out, a repeat that was refused."""
    ours = Ours(Blake2Passes())
    with pytest.raises(BadRun):
        check_answers(ours, workload, Condition(64, "no"), figures, granted)


def test_answers_that_fit_are_not() -> None:
    """Some may be in flight when wrk stops; half of the storm are replays; the floor keeps none."""
    ours, passes = Ours(Blake2Passes()), Blake2Passes()
    check_answers(ours, "W1", Condition(64, "no"), seen(1000, 0), 1064)
    check_answers(ours, "W2", Condition(64, "no"), seen(1000, 1000), 0)
    check_answers(ours, "W3", Condition(64, "no"), seen(1000, 500), 0)
    check_answers(Floor(passes), "W1", Condition(64, "no"), seen(1000, 0), 0)
