"""Which faults a seed draws, when, and for how long; the same for the same seed."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.faults import strace
from tests.faults.data import BrokerWiped
from tests.faults.disk import FailingDisk, SlowDisk
from tests.faults.fault import Fault
from tests.faults.network import Link
from tests.faults.power import PowerCut
from tests.faults.processes import Freeze, Kill
from tests.faults.sale import Sale
from tests.services.proxy import Trouble

PARTS = (
    *("gateway-1", "gateway-2", "relay", "worker-1", "centre"),
    *("valkey", "kafka", "postgres"),
)
LINKS = (
    *("crowd>gateway-1", "gateway-1>valkey", "gateway-2>valkey", "relay>valkey"),
    *("worker>valkey", "parts>kafka", "worker>postgres"),
)
TROUBLES = {
    "delay": Trouble(delay_ms=40),
    "lost replies": Trouble(lose=0.3),
    "resets": Trouble(reset=0.3),
    "stalled requests": Trouble(stall="requests"),
    "stalled replies": Trouble(stall="replies"),
}
FAULTS_MAX = 3
LENGTH_MS = (400, 2500)
LINK_MS_MIN = 1200
"""A part that has nothing to do looks at its services once a second."""

Make = Callable[[Sale, random.Random], Fault]


def _kill(part: str, *, away: bool = False) -> Make:
    return lambda sale, _: Kill(sale.stack, part, away=away)


def _freeze(part: str) -> Make:
    return lambda sale, _: Freeze(sale.stack, part)


def _link(link: str, what: str) -> Make:
    return lambda sale, _: Link(sale.stack, [link], what, TROUBLES[what])


def catalogue() -> dict[str, Make]:
    """Every fault that a sale gets over by itself, by name. Without strace some are missing."""
    made: dict[str, Make] = {}
    for part in PARTS:
        made[f"kill {part}"] = _kill(part)
        made[f"freeze {part}"] = _freeze(part)
    for part in ("valkey", "kafka", "postgres", "relay", "worker-1"):
        made[f"keep {part} away"] = _kill(part, away=True)
    for link in LINKS:
        for what in TROUBLES:
            made[f"{what} {link}"] = _link(link, what)
    made["broker wiped"] = lambda sale, _: BrokerWiped(sale.stack, sale)
    if strace.missing() is None:
        made["slow disk of valkey"] = lambda sale, _: SlowDisk(sale.stack, "valkey", 30)
        made["slow disk of postgres"] = lambda sale, _: SlowDisk(sale.stack, "postgres", 30)
        made["EIO valkey"] = lambda sale, _: FailingDisk(sale.stack, "valkey", "EIO")
        made["ENOSPC valkey"] = lambda sale, _: FailingDisk(sale.stack, "valkey", "ENOSPC")
        made["EIO postgres"] = lambda sale, _: FailingDisk(sale.stack, "postgres", "EIO")
        made["power cut"] = lambda sale, chance: PowerCut(sale.stack, "flushed", chance)
        made["power cut later"] = lambda sale, chance: PowerCut(sale.stack, "later", chance)
    return made


@dataclass(frozen=True, slots=True)
class Event:
    """One fault of a run: begins so long after the sale, and is healed so long after that."""

    fault: str
    at_ms: int
    for_ms: int


def draw(seed: int, span_ms: int, known: Mapping[str, Any]) -> list[Event]:
    """One to three faults within the span, in the order of their beginnings; they may overlap,
    but no part of a stack is hit by two at once."""
    chance = random.Random(f"schedule {seed}")
    events: list[Event] = []
    for _ in range(chance.randint(1, FAULTS_MAX)):
        fault = chance.choice(sorted(known))
        if any(_target(fault) == _target(event.fault) for event in events):
            continue
        at_ms = chance.randint(200, span_ms - LENGTH_MS[1])
        for_ms = chance.randint(*LENGTH_MS)
        events.append(Event(fault, at_ms, max(for_ms, LINK_MS_MIN) if ">" in fault else for_ms))
    return sorted(events, key=lambda event: event.at_ms)


def _target(fault: str) -> str:
    """What it hits. The broker's wiping freezes workers, the power cut kills Valkey."""
    if ">" in fault:
        return fault.rpartition(" ")[2]
    for name in PARTS:
        if name in fault:
            return name
    if "power" in fault:
        return "valkey"
    return "kafka" if "broker" in fault else fault
