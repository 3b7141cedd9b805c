"""F15: a rolling restart of everything that is ours, under load, as an upgrade is rolled out."""

import asyncio
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from tests.faults.crowd import now_ms
from tests.faults.processes import Restart
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import Sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import FaultStack, Shape

PLENTY = 1_000_000
OUT_S = 0.5
"""From leaving the balancer to SIGTERM: what was sent before has its answer."""
WORKERS = 2


async def rolling_restart(stack: FaultStack, seed: int) -> Run:
    """SIGTERM, the successor, the next one, in the order of docs/upgrades.md. Every request gets an
    answer, and none but a coupon, a refusal of the sale, or 503 that says when to repeat."""
    serve_ms: dict[str, int] = {}
    order = ["centre", *(w.name for w in stack.workers), *(r.name for r in stack.relays)]
    order += [gateway.name for gateway in stack.gateways]

    async def script(live: Sale) -> None:
        for name in order:
            number = [g.name for g in stack.gateways].index(name) if "gateway" in name else None
            if number is not None:
                live.crowd.away.add(number)
                await asyncio.sleep(OUT_S)
            restart = Restart(stack, name)
            at_ms = now_ms()
            await restart.inject()
            await restart.heal()
            restart.check_reached()
            serve_ms[name] = now_ms() - at_ms
            if number is not None:
                live.crowd.away.discard(number)
            seq = await live.seq()
            await until(f"the ledger goes on after {name}", partial(_persisted, live, seq))

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=16, per_s=400), script)
    codes = Counter(ask.code for ask in run.history.asks)
    run.figures = {"serve_ms": serve_ms, "codes": dict(codes)}
    run.want(not codes[""], f"{codes['']} requests got no answer")
    wrong = codes.keys() - {"", *ALLOWED}
    run.want(not wrong, f"answers: {sorted(wrong)}")
    return run


ALLOWED = {"GRANTED", "REPLAYED", "SOLD_OUT", "BUSY", "NOT_WARMED", "BACKEND_UNAVAILABLE"}


async def _persisted(live: Sale, seq: int) -> bool:
    return await live.watermark() >= seq


def two_workers() -> AbstractContextManager[Shape]:
    return nullcontext(Shape(workers=WORKERS))


SCENARIOS = [
    Scenario("F15", "a rolling restart under load", rolling_restart, two_workers),
]
