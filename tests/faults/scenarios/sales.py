"""F1: random schedules over a live sale. F5: lost replies, stalls, and keys that are repeated."""

import asyncio
import random

from tests.faults import schedule, strace
from tests.faults.network import Link
from tests.faults.runner import Plan, Run, play, run_sale
from tests.faults.sale import Sale
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import FaultStack
from tests.services.proxy import Trouble

SPAN_MS = 5500
STALL_S = 0.7


async def random_schedule(stack: FaultStack, seed: int) -> Run:
    """1,000 coupons in ten parts, 20,000 attempts, one to three faults."""
    known = schedule.catalogue()
    events = schedule.draw(seed, SPAN_MS, known)
    chance = random.Random(f"plan {seed}")
    devices = chance.choice((0, 1500))
    plan = Plan(
        quota=100, asks=20_000, users=6000, restocks=9, add=100, span_ms=SPAN_MS, per_s=3500,
        per_user=chance.choice((1, 1, 2)), devices=devices, per_device=devices and 2, returns=30,
    )  # fmt: skip

    async def script(live: Sale) -> None:
        await play(live, events, known, seed)

    run = await run_sale(stack, seed, plan, script)
    run.schedule = events
    return run


async def lost_replies(stack: FaultStack, seed: int) -> Run:
    """Three of ten replies are lost between crowd and gateways, one of ten behind the gateways;
    now and then a direction stalls. Every key is repeated up to ten times."""
    chance = random.Random(f"losses {seed}")
    front = [f"crowd>gateway-{n}" for n in (1, 2)]
    behind = [f"gateway-{n}>valkey" for n in (1, 2)]
    faults = [
        Link(stack, front, "lost replies", Trouble(lose=0.3)),
        Link(stack, behind, "lost replies", Trouble(lose=0.1)),
    ]

    async def script(live: Sale) -> None:
        for fault in faults:
            await fault.inject()
        for _ in range(3):
            await asyncio.sleep(STALL_S)
            way = chance.choice(("requests", "replies"))
            trouble = Trouble(lose=0.1, stall="requests" if way == "requests" else "replies")
            stall = Link(stack, [chance.choice(behind)], f"stalled {way}", trouble)
            await stall.inject()
            await asyncio.sleep(STALL_S)
            await stall.heal()
            stall.check_reached()
            await faults[1].inject()
        for fault in faults:
            await fault.heal()
            fault.check_reached()

    plan = Plan(quota=600, asks=2500, users=1500, connections=200)
    run = await run_sale(stack, seed, plan, script)
    attempts: dict[tuple[str, str], int] = {}
    for ask in run.history.asks:
        attempts[ask.user, ask.key] = attempts.get((ask.user, ask.key), 0) + 1
    run.figures = {"keys": len(attempts), "attempts_max": max(attempts.values())}
    return run


SCENARIOS = [
    Scenario("F1", "random schedules over a live sale", random_schedule, missing=strace.missing),
    Scenario("F5", "lost replies, stalls, repeated keys", lost_replies),
]
