"""F11: a clock that is an hour off, of one process, Redis' own among them."""

import asyncio
import time

from flashgrab.cli.rehearsal.connection import Address, Connection
from flashgrab.passes import PassKeys, issue
from tests.faults.clocks import Clock, missing
from tests.faults.history import Answer
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import Sale, sale
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import PASS_KEYS, FaultStack

CASES = [
    (part, seconds)
    for part in ("gateway-1", "valkey", "worker-1", "relay")
    for seconds in (3600, -3600)
]
WRONG_S = 3.0
EXPIRED_MS = 60_000
ROUND = [{"opens_at": "+30m", "closes_at": "+90m", "quota": 100}]


async def clock_off(stack: FaultStack, seed: int) -> Run:
    """One part's clock jumps by an hour in the middle of a sale; another campaign opens in half
    an hour, and passes that expired a minute ago are tried."""
    part, seconds = CASES[seed % len(CASES)]
    clock = Clock(stack, part, seconds)
    await clock.prepare()
    async with sale(stack, seed) as early:
        await early.create(0, {"rounds": ROUND})

        async def script(live: Sale) -> None:
            await asyncio.sleep(1)
            await clock.inject()
            try:
                for number in range(len(stack.gateways)):
                    await early.crowd.attempt_all(number, [(f"u{n}", "k") for n in range(50)])
                await _try_expired(live)
                await asyncio.sleep(WRONG_S)
            finally:
                await clock.heal()
            clock.check_reached()

        plan = Plan(quota=1_000_000, connections=16, per_s=600)
        run = await run_sale(stack, seed, plan, script)
        final = await early.final()
        assert final.redis is not None
        if final.redis.granted or early.history.acknowledged():
            raise AssertionError(f"granted before the opening: {clock.name}")
        told = sorted({ask.code for ask in early.history.asks})
    run.figures = {"fault": clock.name, "early": told}
    return run


async def _try_expired(live: Sale) -> None:
    """At both gateways, whatever their clocks say."""
    expired_ms = time.time_ns() // 1_000_000 - EXPIRED_MS
    token = issue(PassKeys.parse(PASS_KEYS), live.campaign_id, "expired", "", expired_ms)
    for number in range(len(live.stack.gateways)):
        address = Address.of(live.stack.crowd_url(number))
        line = Connection(address)
        try:
            for attempt in range(5):
                ask = await live.crowd.attempt(line, number, "expired", f"k{attempt}", token=token)
                if ask.answer is Answer.OK:
                    raise AssertionError(f"gateway-{number + 1} took an expired pass")
        finally:
            line.close()


SCENARIOS = [Scenario("F11", "a clock one hour off", clock_off, missing=missing, fresh=True)]
