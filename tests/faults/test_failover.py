"""A replica behind a stalled link is promoted: what `durability = "replica"` is for."""

import sys

import pytest

from tests.faults.scenarios import ALL
from tests.faults.stack import fault_stack

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("faults")]


async def test_a_failover_loses_what_no_replica_had() -> None:
    """Two sales meet one failover. Of the one with a replica nothing is lost; where gateways saw
    more than the promoted server knows it is closed, and goes on when it is rebuilt. Its control
    acknowledged by fsync alone, and the checker finds what is gone."""
    scenario = ALL["F14"]
    with scenario.shape() as shape:
        async with fault_stack(shape) as stack:
            try:
                run = await scenario.run(stack, 1)
            except BaseException:
                print(stack.logs(), file=sys.stderr)
                raise
    assert run.ok, (run.violations, run.audit)
    assert len(run.history.acknowledged()) > 0
    assert run.figures["open"] == (run.figures["missed"] == 0)  # none: it was refused before
    assert run.figures["fsync_found"] == ["ACK_LOST"]
