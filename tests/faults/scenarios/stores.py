"""F3: power cuts. F4: disks. F6: Redis stands still. F7: Kafka is away."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

import psutil

from tests.faults import disk, strace
from tests.faults.crowd import now_ms
from tests.faults.data import BrokerWiped
from tests.faults.disk import FailingDisk, FullDisk, SlowDisk, small_disk
from tests.faults.fault import Fault
from tests.faults.history import Answer, Ask
from tests.faults.power import PowerCut
from tests.faults.processes import Freeze, Kill
from tests.faults.runner import Plan, Run, run_sale, settle
from tests.faults.sale import Sale, sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import FaultStack, Shape

PLENTY = 1_000_000
BEFORE_S = 2.0
FULL_S = 3.0
FROZEN_S = 30
AWAY_S = 60
CALM_S = 20
QUIET_S = 2.0
DEADLINE_MS = 2000
SLACK_MS = 50
MEMORY_MB = 50
NORMAL = 2.0
"""What a p99 is at most of the one before, to count as normal again: both are of one noisy run."""
UNCHANGED = 1.2
DRAINED_MS = 30_000
DISK_MB = 400
REOPENS_S = 10.0


async def power_cut(stack: FaultStack, seed: int) -> Run:
    """While the relay stands still, so that nothing but Redis' log has what was acknowledged.

    A server that then knows less than the gateways saw stays closed, and what it lacks is lost.
    """
    where: Literal["flushed", "later"] = "flushed" if seed % 2 else "later"
    async with sale(stack, seed) as live:
        await live.create(PLENTY)
        cut = PowerCut(stack, where, random.Random(f"cut {seed}"))
        relay = Freeze(stack, "relay")
        over = asyncio.Event()
        selling = asyncio.create_task(live.crowd.work_off(buyers(over), 16, 1500))
        await asyncio.sleep(BEFORE_S)
        await relay.inject()
        await cut.inject()
        at_ms = now_ms()
        await cut.heal()
        try:
            await granted_since(live, now_ms())
            open_again, serve_ms = True, now_ms() - at_ms
        except AssertionError:
            open_again, serve_ms = False, 0
        over.set()
        await selling
        await relay.heal()
        for fault in (relay, cut):
            fault.check_reached()
        if not open_again:
            live.history.samples.clear()
            await until("the ledger has what is left", partial(persisted, live, await live.seq()))
        run = await settle(live, with_redis=open_again)
    if not open_again:
        run.audit.append("the campaign stays closed: Redis knows less than was acknowledged")
    traced = {"cut_bytes": cut.cut_bytes, "flushes": cut.trace.flushes, "serve_ms": serve_ms}
    run.figures = {"cut": where, **traced}
    return run


async def disks(stack: FaultStack, seed: int) -> Run:
    """Slow, failing and full, under Valkey and under PostgreSQL, one a run."""
    faults: list[Fault] = [
        FullDisk(stack, "valkey"),
        FullDisk(stack, "postgres"),
        FailingDisk(stack, "valkey", "ENOSPC"),
        FailingDisk(stack, "valkey", "EIO"),
        FailingDisk(stack, "postgres", "EIO"),
        SlowDisk(stack, "valkey", 100),
        SlowDisk(stack, "postgres", 100),
    ]
    fault = faults[seed % len(faults)]
    back_ms = 0

    async def script(live: Sale) -> None:
        nonlocal back_ms
        await asyncio.sleep(BEFORE_S)
        await fault.inject()
        await asyncio.sleep(FULL_S)
        at_ms = now_ms()
        await fault.heal()
        seq = await granted_since(live, at_ms)
        await until("the ledger goes on", partial(persisted, live, seq))
        back_ms = now_ms() - at_ms
        fault.check_reached()

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=16, per_s=800), script)
    late = [a.ended_ms - a.began_ms for a in run.history.asks if a.code == "BACKEND_UNAVAILABLE"]
    run.figures = {
        "fault": fault.name,
        "back_ms": back_ms,
        "refused_within_ms": max(late, default=0),
    }
    return run


async def frozen_redis(stack: FaultStack, seed: int, frozen_s: int = FROZEN_S) -> Run:
    """Redis stands still for 30 s under load: every answer inside the deadline and 50 ms, at most
    50 MB more, and the usual p99 from 2 s after."""
    freeze = Freeze(stack, "valkey")
    gateways = [psutil.Process(gateway.pid) for gateway in stack.gateways]
    times: dict[str, int] = {}
    memory: list[int] = []

    async def script(live: Sale) -> None:
        await asyncio.sleep(5)
        times["at_ms"] = now_ms()
        before = [gateway.memory_info().rss for gateway in gateways]
        await freeze.inject()
        for _ in range(frozen_s):
            await asyncio.sleep(1)
            now = [gateway.memory_info().rss for gateway in gateways]
            memory.append(max(n - b for n, b in zip(now, before, strict=True)))
        times["healed_ms"] = now_ms()
        await freeze.heal()
        await asyncio.sleep(QUIET_S + 5)
        freeze.check_reached()

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=200, per_s=800), script)
    asks = run.history.asks
    frozen = [a for a in asks if times["at_ms"] <= a.began_ms < times["healed_ms"]]
    after_ms = times["healed_ms"] + int(QUIET_S * 1000)
    longest_ms, unanswered = max(took(frozen)), sum(a.code == "" for a in frozen)
    memory_mb = max(memory) >> 20
    before_ms = p99([a for a in asks if a.ended_ms < times["at_ms"]])
    normal_ms = p99([a for a in asks if a.began_ms > after_ms and not a.final])
    run.figures = {
        "frozen_s": frozen_s,
        "asked_meanwhile": len(frozen),
        "longest_ms": longest_ms,
        "unanswered": unanswered,
        "memory_mb": memory_mb,
        "p99_before_ms": before_ms,
        "p99_after_ms": normal_ms,
    }
    run.want(longest_ms <= DEADLINE_MS + SLACK_MS, f"an answer took {longest_ms} ms")
    run.want(not unanswered, f"{unanswered} got no answer")
    run.want(memory_mb <= MEMORY_MB, f"{memory_mb} MB more")
    run.want(normal_ms <= NORMAL * before_ms, f"p99 {normal_ms} ms after, {before_ms} before")
    return run


async def kafka_away(
    stack: FaultStack, seed: int, away_s: int = AWAY_S, calm_s: int = CALM_S
) -> Run:
    """The broker is away for a minute: grabs do not feel it, and 30 s after it the ledger has all.
    It came back empty; then it loses what it acknowledged once more, and all of it is sent again.
    """
    kill = Kill(stack, "kafka", away=True)
    lost = 0
    times: dict[str, int] = {}

    async def script(live: Sale) -> None:
        nonlocal lost
        await asyncio.sleep(calm_s)
        times["at_ms"] = now_ms()
        await kill.inject()
        await asyncio.sleep(away_s)
        times["healed_ms"] = now_ms()
        await kill.heal()
        waited = partial(persisted, live, await live.seq())
        await until("the ledger has what waited", waited, 90)
        times["drained_ms"] = now_ms()
        kill.check_reached()
        wiped = BrokerWiped(stack, live)
        await wiped.inject()
        await wiped.heal()
        wiped.check_reached()
        lost = wiped.lost

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=32, per_s=600), script)
    asks = run.history.asks
    away = [a for a in asks if times["at_ms"] <= a.began_ms < times["healed_ms"]]
    # After the first seconds, in which gateways and crowd are new.
    settled_ms = times["at_ms"] - calm_s * 800
    before = [a for a in asks if settled_ms < a.began_ms and a.ended_ms < times["at_ms"]]
    before_ms, away_ms = p99(before), p99(away)
    drained_ms = times["drained_ms"] - times["healed_ms"]
    run.figures = {
        "away_s": away_s,
        "p99_before_ms": before_ms,
        "p99_away_ms": away_ms,
        "waited": sum(a.answer is Answer.OK for a in away),
        "drained_after_ms": drained_ms,
        "lost_by_broker": lost,
    }
    run.want(away_ms <= UNCHANGED * before_ms, f"p99 {away_ms} ms meanwhile, {before_ms} before")
    run.want(drained_ms <= DRAINED_MS, f"drained after {drained_ms} ms")
    return run


async def persisted(live: Sale, seq: int) -> bool:
    return await live.watermark() >= seq


def buyers(over: asyncio.Event) -> Iterator[tuple[str, str]]:
    number = 0
    while not over.is_set():
        number += 1
        yield f"u{number}", f"k{number}"


async def granted_since(live: Sale, at_ms: int) -> int:
    """Wait for a grant of after this moment; the last seq then."""

    async def granted() -> bool:
        for ask in reversed(live.history.asks):
            if ask.ended_ms < at_ms:
                return False
            if ask.answer is Answer.OK and ask.began_ms >= at_ms:
                return True
        return False

    await until("grabs go on", granted, REOPENS_S)
    return await live.seq()


def took(asks: Sequence[Ask]) -> list[int]:
    return [ask.ended_ms - ask.began_ms for ask in asks] or [0]


def p99(asks: Sequence[Ask]) -> int:
    """The 99th percentile of their times, ms."""
    sorted_ms = sorted(took(asks))
    return sorted_ms[len(sorted_ms) * 99 // 100]


@contextmanager
def on_small_disks() -> Iterator[Shape]:
    with small_disk(DISK_MB) as one, small_disk(DISK_MB) as other:
        yield Shape(folders={"valkey": one / "valkey", "postgres": other / "postgres"})


def _disks_missing() -> str | None:
    return strace.missing() or disk.mount_missing()


SCENARIOS = [
    Scenario("F3", "power cuts, appendfsync always", power_cut, missing=strace.missing),
    Scenario("F4", "disk errors and full disk", disks, on_small_disks, _disks_missing, fresh=True),
    Scenario(
        *("F6", "Redis stands still for 30 s under load", frozen_redis),
        short=partial(frozen_redis, frozen_s=5),
    ),
    Scenario(
        *("F7", "Kafka away for 60 s, and wiped", kafka_away),
        short=partial(kafka_away, away_s=8, calm_s=8),
    ),
]
