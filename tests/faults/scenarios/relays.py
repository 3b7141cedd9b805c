"""F13: two relays; the one that leads is killed, frozen past its lease, or stopped."""

import asyncio
import os
import re
import signal
import urllib.request
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from tests.faults.crowd import now_ms
from tests.faults.processes import Freeze, Kill
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import Sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import FaultStack, HeldPart, Shape
from worker.lease import LEASE_MS

BETWEEN_S = 1.0
TIMES = 3
FAULTS = ("killed", "frozen", "stopped")
LEADS = re.compile(r"^flashgrab_relay_leads 1\.0$", re.MULTILINE)


async def the_leader_fails(stack: FaultStack, seed: int, times: int = TIMES) -> Run:
    """Three times: another relay leads, the ledger goes on, and who wakes up stands by."""
    fault = FAULTS[seed % len(FAULTS)]
    serve_ms: list[int] = []

    async def script(live: Sale) -> None:
        for _ in range(times):
            await asyncio.sleep(BETWEEN_S)
            leader = await until("a relay leads", partial(_leader, stack))
            seq, at_ms = await live.seq(), now_ms()
            made = await _make(stack, fault, leader)
            await until("another relay leads", partial(_another, stack, leader))
            await until("the ledger goes on", partial(_goes_on, live, seq))
            serve_ms.append(now_ms() - at_ms)
            await asyncio.sleep(max(0.0, (at_ms + 2 * LEASE_MS - now_ms()) / 1000))
            await made.heal()
            made.check_reached()
            await until("one relay leads", partial(_one_leads, stack))

    run = await run_sale(stack, seed, Plan(quota=1_000_000, connections=16, per_s=600), script)
    run.figures = {"fault": f"relay that leads {fault}", "serve_ms": max(serve_ms)}
    return run


class Stop(Kill):
    """SIGTERM: it gives its lease up."""

    async def inject(self) -> None:
        self.stack.gate(self._part).close()
        self._child = self.stack.services[self._part].child
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGTERM)

    def reached(self) -> bool:
        return self._child is not None and self._child.poll() == 0


async def _make(stack: FaultStack, fault: str, leader: HeldPart) -> Kill | Freeze:
    made: Kill | Freeze
    if fault == "frozen":
        made = Freeze(stack, leader.name)
    else:
        made = (
            Kill(stack, leader.name, away=True) if fault == "killed" else Stop(stack, leader.name)
        )
    await made.inject()
    return made


async def _leaders(stack: FaultStack) -> list[HeldPart]:
    said = await asyncio.gather(*(asyncio.to_thread(_leads, relay) for relay in stack.relays))
    return [relay for relay, leads in zip(stack.relays, said, strict=True) if leads]


def _leads(relay: HeldPart) -> bool:
    try:
        with urllib.request.urlopen(f"http://{relay.address}/metrics", timeout=0.5) as page:
            return LEADS.search(page.read().decode()) is not None
    except OSError:
        return False


async def _leader(stack: FaultStack) -> HeldPart | None:
    return next(iter(await _leaders(stack)), None)


async def _another(stack: FaultStack, leader: HeldPart) -> bool:
    return any(relay is not leader for relay in await _leaders(stack))


async def _one_leads(stack: FaultStack) -> bool:
    return len(await _leaders(stack)) == 1


async def _goes_on(live: Sale, seq: int) -> bool:
    return await live.watermark() > seq


def two_relays() -> AbstractContextManager[Shape]:
    return nullcontext(Shape(relays=2))


SCENARIOS = [
    Scenario("F13", "of two relays the one that leads fails", the_leader_fails, two_relays)
]
