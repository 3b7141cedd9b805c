"""F14: the primary is lost and a replica promoted, with and without `durability = "replica"`."""

import asyncio
from contextlib import nullcontext
from functools import partial

from tests.faults.checker import Kind, check
from tests.faults.crowd import now_ms
from tests.faults.failover import Failover, replicas
from tests.faults.fault import NotReached
from tests.faults.processes import Freeze
from tests.faults.runner import Run, settle
from tests.faults.sale import Sale, sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.scenarios.stores import buyers, persisted
from tests.faults.stack import FaultStack, Shape

PLENTY = 1_000_000
BEFORE_S = 2.0
CONFIRMED_S = 4.0
"""After the ledger has all: the worker needs a second of grace, and the gateways' reports."""


AHEAD_S = 3.0


async def failover(stack: FaultStack, seed: int) -> Run:
    """Two sales, one at each level, meet the same failover. The seed modulo 3:

    1, nothing reached the replica before, and the relay stood still: Redis alone had it; 2, the
    replica is in sync, the relay stood still; 0, nothing reached the replica, and the relay was not
    held: Kafka and ledger are ahead of the replica. Afterwards a campaign goes on, or is closed
    because the replica knows less than was seen; then the sale with a replica, whose run this is,
    is rebuilt and goes on. The other one is its control.
    """
    stalled, held = seed % 3 != 2, seed % 3 != 0
    async with sale(stack, seed) as live, sale(stack, seed + 1) as control, replicas(stack) as to:
        await live.create(PLENTY, {"durability": "replica"})
        await control.create(PLENTY)
        over = asyncio.Event()
        selling = [
            asyncio.create_task(each.crowd.work_off(buyers(over), 16, 300))
            for each in (live, control)
        ]
        await asyncio.sleep(BEFORE_S)
        relay = Freeze(stack, "relay")
        if held:
            await relay.inject()
        fault = Failover(stack, to, [live, control], stalled=stalled)
        await fault.inject()
        at_ms = now_ms()
        if held:
            await relay.heal()
            relay.check_reached()
        ahead = 0 if held else await _ahead(live)
        opened = [await _opens(each) for each in (live, control)]
        if not opened[0]:
            await live.rebuild()
        serve_ms = await _serves(live, at_ms)
        over.set()
        await asyncio.gather(*selling)
        fault.check_reached()
        run = await settle(live)
        other = await settle(control) if opened[1] else await _end_closed(control)
    kinds = [violation.kind for violation in other.violations]
    run.figures = {
        "fault": fault.name,
        "open": opened[0],
        "missed": fault.missed[0],
        "ahead": ahead,
        "serve_ms": serve_ms,
        "fsync_acknowledged": len(other.history.acknowledged()),
        "fsync_lost": kinds.count(Kind.ACK_LOST),
        "fsync_found": sorted({kind.name for kind in kinds}),
    }
    return run


async def _ahead(live: Sale) -> int:
    """Facts of the ledger that the promoted replica lacks. Raises NotReached."""
    there = await live.seq()

    async def ahead() -> int:
        return await live.watermark() - there

    try:
        return int(await until("the ledger is ahead of the replica", ahead, AHEAD_S))
    except AssertionError as error:
        raise NotReached(str(error)) from None


async def _opens(live: Sale) -> bool:
    """Whether the campaign is confirmed for its new server, once the ledger has what that has."""
    await until("the ledger has what is left", partial(persisted, live, await live.seq()), 30)
    run = await live.store.run_id()

    async def confirmed() -> bool:
        state = await live.store.read(live.campaign_id)
        return state is not None and state.run == run

    try:
        await until("it is confirmed", confirmed, CONFIRMED_S)
    except AssertionError:
        return False
    return True


async def _serves(live: Sale, at_ms: int) -> int:
    """How long after the failover somebody was granted a coupon again."""
    begun_ms = now_ms()

    async def granted() -> bool:
        return any(a.code == "GRANTED" and a.began_ms >= begun_ms for a in live.history.asks[-500:])

    await until("grabs go on", granted, 10)
    return now_ms() - at_ms


async def _end_closed(live: Sale) -> Run:
    final = await live.final(with_redis=False)
    live.history.samples.clear()
    return Run(live.history, check(live.history, final))


SCENARIOS = [
    Scenario(
        "F14",
        "failover to a replica, durability replica beside fsync",
        failover,
        shape=lambda: nullcontext(Shape(valkey={"repl-diskless-sync-delay": "0"})),
        fresh=True,
    ),
]
