"""F12: a long sale, a fault every 20 s, and what it costs in memory and file descriptors."""

import asyncio
import random
import re
from collections import defaultdict
from functools import partial

import httpx2
import psutil

from tests.faults import schedule, strace
from tests.faults.crowd import now_ms
from tests.faults.runner import Plan, Run, run_sale
from tests.faults.sale import Sale, until
from tests.faults.scenarios.scenario import Scenario
from tests.faults.stack import FaultStack

SOAK_S = 1200
EVERY_S = 20
HOLDS_S = 4
WARM_S = 60
PLENTY = 1_000_000
GROWTH_KB = 1024
SLOPE_S = 300
"""A slope over less says nothing."""
FILES_MORE = 5
PARTS = ("gateway-1", "gateway-2", "relay", "worker-1", "centre")
"""Measured, and therefore not killed here: F1 and F2 do that."""


async def soak(stack: FaultStack, seed: int, seconds: int = SOAK_S, warm_s: int = WARM_S) -> Run:
    """Faults one after the other, each healed before the next: no alarm stands after the last, no
    memory grows by 1 MB a minute, and file descriptors stay as many as they were."""
    chance = random.Random(f"soak {seed}")
    known = schedule.catalogue()
    names = sorted(n for n in known if not (n.startswith(("kill", "keep")) and n.endswith(PARTS)))
    readings: dict[str, list[tuple[int, int, int]]] = defaultdict(list)
    alarms: list[str] = []

    async def script(live: Sale) -> None:
        begun_ms = now_ms()
        while (now_ms() - begun_ms) / 1000 < seconds:
            next_ms = now_ms() + EVERY_S * 1000
            fault = known[chance.choice(names)](live, chance)
            await fault.inject()
            try:
                await asyncio.sleep(HOLDS_S)
            finally:
                await fault.heal()
            fault.check_reached()
            while now_ms() < next_ms:
                at_ms = now_ms() - begun_ms
                if at_ms >= warm_s * 1000:
                    _read(stack, at_ms, readings)
                await asyncio.sleep(1)
        await until("no alarm stands", lambda: _no_alarm(stack, alarms))

    run = await run_sale(stack, seed, Plan(quota=PLENTY, connections=8, per_s=100), script)
    growth = {part: _slope_kb(rows) for part, rows in readings.items()}
    files = {part: _descriptors(rows) for part, rows in readings.items()}
    run.figures = {"soak_s": seconds, "kb_a_minute": growth, "descriptors": files}
    for part, kb in growth.items() if seconds >= SLOPE_S else ():
        run.want(kb < GROWTH_KB, f"{part} grows by {kb} KB a minute")
    for part, (first, last) in files.items():
        run.want(last <= first + FILES_MORE, f"{part} has {last} descriptors, {first} before")
    return run


def _read(stack: FaultStack, at_ms: int, readings: dict[str, list[tuple[int, int, int]]]) -> None:
    for part in PARTS:
        pid = stack.services[part].pid
        assert pid is not None, f"{part} has died"
        process = psutil.Process(pid)
        readings[part].append((at_ms, process.memory_info().rss, process.num_fds()))


def _descriptors(rows: list[tuple[int, int, int]]) -> tuple[int, int]:
    """At the beginning and the end: the middle of some readings, as connections come and go."""
    third = max(1, len(rows) // 3)
    ends = (sorted(files for _, _, files in some) for some in (rows[:third], rows[-third:]))
    first, last = (counts[len(counts) // 2] for counts in ends)
    return first, last


def _slope_kb(rows: list[tuple[int, int, int]]) -> int:
    """KB a minute by least squares: one reading more or less must not matter."""
    middle_ms = sum(at for at, _, _ in rows) / len(rows)
    middle = sum(rss for _, rss, _ in rows) / len(rows)
    spread = sum((at - middle_ms) ** 2 for at, _, _ in rows)
    slope = sum((at - middle_ms) * (rss - middle) for at, rss, _ in rows) / (spread or 1)
    return int(slope * 60_000 / 1024)


async def _no_alarm(stack: FaultStack, alarms: list[str]) -> bool:
    """The live audit finds every invariant kept, and no part has an alarm on."""
    async with httpx2.AsyncClient(verify=False, timeout=5) as http:
        urls = [stack.services[part].metrics_url for part in PARTS]  # type: ignore[attr-defined]
        texts = [(await http.get(url)).text for url in urls]
    text = "".join(texts)
    kept = re.findall(r"^flashgrab_invariant_ok\{(.*)\} ([0-9.]+)$", text, re.MULTILINE)
    on = re.findall(r"^flashgrab_alarm\{(.*)\} ([0-9.]+)$", text, re.MULTILINE)
    alarms[:] = [labels for labels, value in kept if float(value) != 1]
    alarms += [labels for labels, value in on if float(value) != 0]
    return bool(kept) and not alarms


SCENARIOS = [
    Scenario(
        *("F12", "soak, a fault every 20 s", soak),
        missing=strace.missing,
        short=partial(soak, seconds=40, warm_s=5),
    )
]
