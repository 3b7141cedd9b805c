"""F2: kill -9 of each part at full rate. F8: kills between any two steps. F9: rebalances."""

import asyncio
import random
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import get_args

from tests.faults.crowd import now_ms
from tests.faults.fault import NotReached
from tests.faults.history import Answer
from tests.faults.processes import DieAt, Kill, Zombie
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import Sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.schedule import PARTS
from tests.faults.stack import FaultStack, Shape
from worker.steps import Step

PLENTY = 1_000_000
BETWEEN_S = 1.0
RELAY_STEPS = ("read", "published", "cursor")
DEATHS = 3
REBALANCES = 5
REBALANCE_S = 2.0
TAKEN_OVER_S = 60.0
STALE = "another worker has moved the offsets"


async def kill_each_part(stack: FaultStack, seed: int) -> Run:
    """Each part once, in an order drawn, while every gateway grants as fast as it can."""
    order = random.Random(f"order {seed}").sample(PARTS, len(PARTS))
    serve_ms: dict[str, int] = {}

    async def script(live: Sale) -> None:
        for part in order:
            await asyncio.sleep(BETWEEN_S)
            seq = await live.seq()
            kill = Kill(stack, part)
            at_ms = now_ms()
            await kill.inject()
            goes_on = partial(_goes_on, live, part, seq, at_ms)
            await until(f"grabs and ledger go on after {part}", goes_on)
            serve_ms[part] = now_ms() - at_ms
            await kill.heal()
            kill.check_reached()

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=24), script)
    run.figures = {"serve_ms": serve_ms}
    return run


async def _goes_on(live: Sale, part: str, seq: int, at_ms: int) -> bool:
    """The dead gateway grants again, or Redis does, or the ledger has what was granted before."""
    if part in ("gateway-1", "gateway-2", "valkey"):
        numbers = (0, 1) if part == "valkey" else (int(part[8:]) - 1,)
        for ask in reversed(live.history.asks):
            if ask.ended_ms < at_ms:
                return False
            if ask.answer is Answer.OK and ask.began_ms > at_ms and ask.gateway in numbers:
                return True
        return False
    if part == "centre":
        centre = live.stack.centre
        return centre.pid is not None and await asyncio.to_thread(centre.probe)
    return await live.watermark() > seq


async def kill_at_each_step(stack: FaultStack, seed: int) -> Run:
    """Relay or worker dies at exactly one step, several times; the seed says which step."""
    steps = get_args(Step)
    step = steps[seed % len(steps)]
    fault = DieAt(stack, "relay" if step in RELAY_STEPS else "worker-1", step)

    async def script(live: Sale) -> None:
        await asyncio.sleep(BETWEEN_S)
        await fault.inject()
        try:
            await fault.died(DEATHS)
        finally:
            await fault.heal()
        fault.check_reached()

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=8, per_s=300), script)
    run.figures = {"step": step, "deaths": fault.deaths}
    return run


async def rebalances(stack: FaultStack, seed: int, times: int = REBALANCES) -> Run:
    """Of three workers one stands still with records in its hands, past its session, while another
    leaves or comes every 2 s. What it then writes is refused: others have moved the offsets."""
    chance = random.Random(f"rebalances {seed}")

    async def script(live: Sale) -> None:
        for _ in range(times):
            still, leaving = chance.sample([worker.name for worker in stack.workers], 2)
            zombie, kill = Zombie(stack, still), Kill(stack, leaving, away=True)
            await zombie.inject()
            seq = await live.seq()
            await kill.inject()
            await asyncio.sleep(REBALANCE_S)
            await kill.heal()
            # The others have its partitions, and have read on.
            await until("the ledger goes on", partial(_persisted, live, seq), TAKEN_OVER_S)
            await zombie.heal()
            for fault in (zombie, kill):
                fault.check_reached()
            await asyncio.sleep(REBALANCE_S)

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=16, per_s=800), script)
    stale = sum(worker.log.read_text().count(STALE) for worker in stack.workers)
    if not stale:
        raise NotReached("no stale writer was refused")
    run.figures = {"stale_writers_refused": stale}
    return run


async def _persisted(live: Sale, seq: int) -> bool:
    return await live.watermark() >= seq


def three_workers() -> AbstractContextManager[Shape]:
    return nullcontext(Shape(workers=3))


SCENARIOS = [
    Scenario("F2", "kill -9 of each part at full grab rate", kill_each_part),
    Scenario("F8", "relay and worker killed between any two steps", kill_at_each_step),
    Scenario(
        *("F9", "rebalances, and a worker frozen past its session", rebalances, three_workers),
        short=partial(rebalances, times=1),
    ),
]
