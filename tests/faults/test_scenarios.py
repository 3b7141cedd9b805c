"""One run each of the scenarios whose faults need a stack of their own."""

import sys
from collections.abc import Sequence

import pytest

from tests.conftest import require
from tests.faults.runner import Run
from tests.faults.scenarios import ALL
from tests.faults.scenarios.kills import rebalances
from tests.faults.stack import Shape, fault_stack

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("faults")]


async def runs(name: str, seeds: Sequence[int]) -> list[Run]:
    """These runs of a scenario, one after the other on one stack."""
    scenario = ALL[name]
    require(scenario.missing())
    with scenario.shape() as shape:
        async with fault_stack(shape) as stack:
            try:
                done = [await scenario.run(stack, seed) for seed in seeds]
            except BaseException:
                print(stack.logs(), file=sys.stderr)
                raise
    for run in done:
        assert run.violations == []
        assert run.audit == []
    return done


async def test_full_disks() -> None:
    """Valkey's and PostgreSQL's: refusals meanwhile, and both go on when there is space again."""
    await runs("F4", [0, 1])


async def test_a_replica_that_knows_less_and_data_that_are_gone() -> None:
    """Promoted, deleted: the campaign is closed, to new keys and to old ones, until it is rebuilt;
    what was acknowledged and is gone, the report of the rebuild has allowed for."""
    for run in await runs("F10", [0, 1]):
        assert run.figures["closed"]
        assert run.figures["epoch"] == 2
        assert run.figures["lost_acks"] <= run.figures["lost_max"]
        assert run.figures["missed"] > 0


async def test_a_clock_one_hour_off() -> None:
    """Redis' own and a gateway's: nobody wins before the opening, or with an expired pass."""
    await runs("F11", [2, 1])


async def test_replies_that_are_lost() -> None:
    """Each key ends with one coupon or with none, and the same at both gateways."""
    (run,) = await runs("F5", [1])
    assert run.figures["attempts_max"] > 1


async def test_workers_that_come_and_go() -> None:
    """Three workers, rebalances, one of them still past its session with records in its hands:
    what it writes is refused, and each fact is there once."""
    async with fault_stack(Shape(workers=3)) as stack:
        run = await rebalances(stack, 1, times=1)
    assert run.ok, (run.violations, run.audit)


async def test_a_rolling_restart() -> None:
    """Workers, relay, gateways, centre, one after the other under load: nothing lost, nothing
    twice, and no request without an answer that the contract has."""
    (run,) = await runs("F15", [1])
    assert run.missed == []
