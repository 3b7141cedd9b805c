"""Negative controls: with one protection off the same run must fail, or it shows nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from tests.conftest import require
from tests.faults import strace
from tests.faults.checker import Kind
from tests.faults.data import BrokerWiped
from tests.faults.network import Link
from tests.faults.processes import Freeze
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import DRAIN_S, Sale
from tests.faults.scenarios.stores import power_cut, took
from tests.faults.stack import FaultStack, Shape, fault_stack
from tests.services.proxy import Trouble

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("faults")]

DEADLINE_MS = 2000
SLACK_MS = 1500
"""For a busy machine; without the protection it is seconds more."""
TRIES = 3


async def test_a_power_cut_loses_what_everysec_had_not_flushed() -> None:
    """`appendfsync everysec`: acknowledged grabs are gone. With `always` none is (test_sales)."""
    require(strace.missing())
    for seed in range(1, 1 + TRIES):  # a cut right after the flush of a second loses nothing
        async with fault_stack(Shape(valkey={"appendfsync": "everysec"})) as stack:
            run = await power_cut(stack, 2 * seed + 1)
        if run.violations:
            break
    assert {violation.kind for violation in run.violations} == {Kind.ACK_LOST}


async def lost_replies(stack: FaultStack) -> Run:
    """Replies between gateways and Redis are lost, so that batches are sent again."""
    links = [f"gateway-{n}>valkey" for n in (1, 2)]

    async def script(live: Sale) -> None:
        fault = Link(stack, links, "lost replies", Trouble(lose=0.2))
        await fault.inject()
        await asyncio.sleep(3)
        await fault.heal()
        fault.check_reached()

    plan = Plan(quota=1500, asks=1200, users=1200, connections=64, per_s=400, per_user=3)
    return await run_sale(stack, 1, plan, script)


async def test_a_batch_sent_again_with_fresh_ids_takes_a_second_coupon(stack: FaultStack) -> None:
    """The same request ids make a batch that is sent again a replay."""
    assert (await lost_replies(stack)).ok
    wrong = await _without("gateway", "same-request-ids", lost_replies)
    kinds = {violation.kind for violation in wrong.violations}
    assert kinds & {Kind.CROSSED, Kind.NEVER_ASKED}, kinds


async def frozen_redis(stack: FaultStack) -> Run:
    """Redis stands still for longer than any answer may take."""
    freeze = Freeze(stack, "valkey")

    async def script(live: Sale) -> None:
        await asyncio.sleep(1)
        await freeze.inject()
        await asyncio.sleep(4)
        await freeze.heal()
        freeze.check_reached()

    return await run_sale(stack, 1, Plan(quota=5000, connections=16, per_s=200), script)


async def test_a_client_that_retries_by_itself_breaks_the_deadline(stack: FaultStack) -> None:
    """Answers come within the deadline, since nothing below the gateway repeats anything."""
    bound_ms = DEADLINE_MS + SLACK_MS
    assert max(took((await frozen_redis(stack)).history.asks)) < bound_ms
    slow = await _without("gateway", "own-deadline", frozen_redis)
    assert max(took(slow.history.asks)) >= bound_ms


async def broker_wiped(stack: FaultStack, drain_s: float = 15) -> Run:
    """The broker loses what it acknowledged and the worker had not read."""

    async def script(live: Sale) -> None:
        await asyncio.sleep(1)
        fault = BrokerWiped(stack, live)
        await fault.inject()
        await fault.heal()
        fault.check_reached()

    plan = Plan(quota=5000, connections=16, per_s=300)
    return await run_sale(stack, 1, plan, script, drain_s=drain_s)


async def test_without_the_watermark_a_wiped_broker_loses_facts(stack: FaultStack) -> None:
    """What is trimmed when it is published is gone when the broker is."""
    assert (await broker_wiped(stack, DRAIN_S)).ok
    wrong = await _without("relay", "watermark", broker_wiped)
    assert Kind.MISSING_ROW in {violation.kind for violation in wrong.violations}


async def _without(part: str, protection: str, run: Callable[[FaultStack], Awaitable[Run]]) -> Run:
    """The run on a stack of its own, with this protection off."""
    async with fault_stack(Shape(without={part: protection})) as stack:
        return await run(stack)
