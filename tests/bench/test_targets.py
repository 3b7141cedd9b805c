"""What was promised, held against a run."""

from bench.figures import Spread
from bench.result import Condition
from bench.targets import TARGETS, Target, judge
from tests.bench.samples import C64, result, sample


def verdicts(against: str, measure: str) -> list[bool | None]:
    found = judge(result().samples)
    return [
        v.reached
        for v in found
        if (v.target.workload, v.target.against, v.target.measure) == ("W1", against, measure)
    ]


def test_a_median_on_the_wrong_side_is_a_miss_and_what_did_not_run_is_neither() -> None:
    """2.4 times the textbook is not 6; there was no nginx-lua."""
    assert verdicts("textbook", "requests/s") == [False]
    assert verdicts("floor", "server CPU") == [False]
    assert verdicts("nginx-lua", "CPU") == [None]


def test_a_target_is_reached_by_the_median() -> None:
    """Seven times in two of three rounds is enough for six times."""
    rates = (12_000, 14_000, 14_000)
    samples = [sample("flashgrab", n, rate) for n, rate in enumerate(rates)]
    samples += [sample("textbook", n, 2000) for n, _ in enumerate(rates)]
    first = next(v for v in judge(samples) if v.target.at_least)
    assert first.reached
    assert first.seen == Spread(7.0, 6.0, 7.0)
    assert str(first) == (
        "| W1 | requests/s, over textbook's | 64 | always | 7.00 (6.00…7.00) | ≥ 6 | reached |"
    )


def test_a_target_holds_for_its_own_conditions_only() -> None:
    """Redis' microseconds a grant are promised at 256 connections with every write on disk."""
    wide = [Condition(n, fsync) for n in (64, 256) for fsync in ("no", "always")]
    samples = [sample("flashgrab", 1, 12_000, condition=c) for c in wide]
    redis = [v.condition for v in judge(samples) if v.target.measure == "Redis µs"]
    assert redis == [Condition(256, "always")]


def test_every_target_names_a_workload_that_its_systems_have() -> None:
    """A target that nothing can measure would never be missed."""
    from bench.systems import all_systems

    workloads = {system.name: system.workloads for system in all_systems()}
    for target in TARGETS:
        assert isinstance(target, Target)
        for name in ("flashgrab", target.against or "flashgrab"):
            assert name == "floor" or target.workload in workloads[name]
    assert C64.connections in TARGETS[0].limits
