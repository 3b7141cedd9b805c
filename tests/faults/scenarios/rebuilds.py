"""F10: Redis knows less than was acknowledged: closed until rebuilt, then the sale goes on."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from flashgrab.store import Store
from tests.faults.checker import lost
from tests.faults.crowd import now_ms
from tests.faults.data import DataDeleted, StaleReplica
from tests.faults.history import Answer
from tests.faults.processes import Kill
from tests.faults.runner import Run, settle
from tests.faults.sale import Sale, sale
from tests.faults.scenarios.scenario import Scenario
from tests.faults.scenarios.stores import PLENTY, buyers, granted_since
from tests.faults.stack import FaultStack

BEFORE_S = 2.0
CLOSED_ASKS = 20
CENTRE_S_MAX = 3.0


async def redis_knows_less(stack: FaultStack, seed: int) -> Run:
    """Under load: data deleted (odd seeds), or an older replica promoted. Nobody is told yes or no
    until the campaign was rebuilt; meanwhile, in two seeds of four, the centre is killed. What was
    acknowledged and lost is counted, and no more than the product's report allows."""
    async with sale(stack, seed) as live:
        await live.create(PLENTY)
        over = asyncio.Event()
        selling = asyncio.create_task(live.crowd.work_off(buyers(over), 16, 600))
        await asyncio.sleep(BEFORE_S)
        fault = DataDeleted(stack, live) if seed % 2 else StaleReplica(stack, live)
        await fault.inject()
        async with _store_of(live, fault):
            closed = await _closed(live)
            begun_ms = now_ms()
            async with _killing(stack, seed):
                report = await live.rebuild()
            rebuilt_ms = now_ms() - begun_ms
            at_ms = now_ms()
            await granted_since(live, at_ms)
            serve_ms = now_ms() - at_ms
            over.set()
            await selling
            fault.check_reached()
            run = await settle(live)
            final = await live.final()
    run.figures = {
        "fault": fault.name,
        "closed": closed,
        "rebuilt_ms": rebuilt_ms,
        "serve_ms": serve_ms,
        "lost_acks": len(lost(live.history, final)),
        "missed": fault.missed if isinstance(fault, StaleReplica) else fault.seq,
        **{name: report[name] for name in ("epoch", "lost_seen", "lost_max", "taken_over")},
    }
    return run


@asynccontextmanager
async def _store_of(live: Sale, fault: DataDeleted | StaleReplica) -> AsyncIterator[None]:
    """The sale is read where it goes on: on the replica that was promoted. Until the block ends."""
    if isinstance(fault, DataDeleted):
        yield
        return
    before = live.store
    async with Store(fault.replica.url) as promoted:
        live.store = promoted
        try:
            yield
        finally:
            live.store = before
            await fault.heal()


@asynccontextmanager
async def _killing(stack: FaultStack, seed: int) -> AsyncIterator[None]:
    """The centre dies at some moment of the block, which has to last until then."""
    if seed % 4 < 2:
        yield
        return
    kill = Kill(stack, "centre")

    async def later() -> None:
        await asyncio.sleep(random.Random(f"centre {seed}").uniform(0, CENTRE_S_MAX))
        await kill.inject()

    dying = asyncio.create_task(later())
    try:
        yield
    finally:
        await dying
        await kill.heal()
    kill.check_reached()


async def _closed(live: Sale) -> bool:
    """New keys and old ones, at both gateways: nobody is told yes or no."""
    new = [(f"late{n}", "k") for n in range(CLOSED_ASKS)]
    old = [(a.user, a.key) for a in live.history.asks if a.answer is Answer.OK][:CLOSED_ASKS]
    begun_ms = now_ms()
    for number in range(len(live.stack.gateways)):
        await live.crowd.attempt_all(number, new + old)
    asked = [ask for ask in live.history.asks if ask.began_ms >= begun_ms]
    if any(ask.answer is not Answer.UNKNOWN for ask in asked):
        raise AssertionError(
            f"it is not closed: {next(a for a in asked if a.code != 'NOT_WARMED')}"
        )
    return all(ask.code in ("NOT_WARMED", "BACKEND_UNAVAILABLE") for ask in asked)


SCENARIOS = [
    Scenario("F10", "Redis knows less than was acknowledged", redis_knows_less, fresh=True),
]
