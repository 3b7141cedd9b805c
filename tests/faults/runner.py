"""One live sale under faults: sell, break, heal, ask everywhere, drain, check."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flashgrab.clock import SystemClock
from tests.faults.checker import Kind, Violation, check, stale_refusals
from tests.faults.crowd import now_ms
from tests.faults.fault import Fault
from tests.faults.history import Answer, History
from tests.faults.sale import DRAIN_S, Sale, sale
from tests.faults.schedule import Event, Make
from tests.faults.stack import FaultStack
from worker.audit import Audit

WINNERS_ASKED = 50
"""Keys that won and are asked again everywhere after healing, besides those that know nothing."""

Script = Callable[[Sale], Awaitable[None]]


@dataclass(frozen=True)
class Plan:
    """The sale. `asks` 0: as long as the script runs, each user new. `restocks` more coupons come
    one part after another, evenly over `span_ms`; so come `returns` coupons back."""

    quota: int
    asks: int = 0
    users: int = 0
    restocks: int = 0
    add: int = 0
    returns: int = 0
    span_ms: int = 0
    connections: int = 48
    per_s: float = 0.0
    per_user: int = 1
    per_device: int = 0
    devices: int = 0
    rounds: list[dict[str, Any]] | None = None


@dataclass
class Run:
    """What one run saw. `figures` are the scenario's own."""

    history: History
    violations: list[Violation] = field(default_factory=list)
    audit: list[str] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)
    """What the scenario wanted besides the promises (times, memory), and did not get."""
    figures: dict[str, Any] = field(default_factory=dict)
    schedule: list[Event] = field(default_factory=list)
    asked_ms: int = 0
    drained_ms: int = 0
    """After healing: until all keys had their answer, and from then on until the ledger had all."""

    @property
    def ok(self) -> bool:
        return not self.violations and not self.audit

    def want(self, so: bool, otherwise: str) -> None:
        """Note what was missed."""
        if not so:
            self.missed.append(otherwise)

    def counts(self) -> dict[str, int]:
        """What the table of docs/faults.md wants."""
        kinds = Counter(violation.kind for violation in self.violations)
        answers = Counter(ask.answer for ask in self.history.asks)
        return {
            "asks": len(self.history.asks),
            "acknowledged": len(self.history.acknowledged()),
            "refused": answers[Answer.REFUSED],
            "unknown": answers[Answer.UNKNOWN],
            "stale_refusals": len(stale_refusals(self.history)),
            "returned": sum(one.done for one in self.history.returns),
            "samples": len(self.history.samples),
            "asked_ms": self.asked_ms,
            "drained_ms": self.drained_ms,
            "lost": kinds[Kind.ACK_LOST] + kinds[Kind.MISSING_ROW],
            "doubled": kinds[Kind.DOUBLE_ROW] + kinds[Kind.KEY_TWICE] + kinds[Kind.TWO_SERIALS],
            "violations": len(self.violations),
        }


async def run_sale(
    stack: FaultStack, seed: int, plan: Plan, script: Script, *, drain_s: float = DRAIN_S
) -> Run:
    """Sell while the script breaks and heals things; then bring everything to an end and check."""
    chance = random.Random(f"sale {seed}")
    async with sale(stack, seed, plan.devices) as live:
        fields: dict[str, Any] = {"per_user": plan.per_user, "per_device": plan.per_device}
        if plan.rounds is not None:
            fields["rounds"] = plan.rounds
        await live.create(plan.quota, fields)
        over = asyncio.Event()
        asks = _asks(plan, chance) if plan.asks else _endless(over)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(live.crowd.work_off(asks, plan.connections, plan.per_s))
            tasks.create_task(_restock(live, plan))
            tasks.create_task(_give_back(live, plan, chance))
            try:
                await script(live)
            finally:
                over.set()
        return await settle(live, drain_s=drain_s)


async def settle(live: Sale, *, with_redis: bool = True, drain_s: float = DRAIN_S) -> Run:
    """After healing: every key gets its answer, the ledger everything; then check. Without Redis,
    where the campaign is closed, nobody is asked."""
    begun_ms = now_ms()
    if with_redis:
        await live.all_back()
        await live.known_everywhere()
        await live.crowd.ask_everywhere(_open_questions(live.history))
    asked_ms = now_ms()
    late = ""
    if with_redis:
        try:
            await live.drained(drain_s)
        except AssertionError as error:
            late = str(error)
    drained_ms = now_ms()
    final = await live.final(with_redis=with_redis)
    run = Run(live.history, check(live.history, final))
    run.asked_ms, run.drained_ms = asked_ms - begun_ms, drained_ms - asked_ms
    if with_redis:
        run.audit = [late] if late else await _audit(live)
    return run


async def _audit(live: Sale) -> list[str]:
    """What the product's own audit finds."""
    report = await Audit(live.pool, live.store, SystemClock()).run(live.campaign_id)
    findings = [*report.findings, *(f for c in report.campaigns for f in c.findings)]
    return [f"{f.damage_name}: {f.subject} {f.detail}" for f in findings]


async def play(live: Sale, events: list[Event], known: dict[str, Make], seed: int) -> None:
    """Inject and heal by the schedule. Raises NotReached; heals whatever happens."""
    begun_ms = now_ms()
    faults = [known[event.fault](live, random.Random(f"{seed} {event}")) for event in events]

    async def one(event: Event, fault: Fault) -> None:
        await _at(begun_ms + event.at_ms)
        await fault.inject()
        try:
            await _at(now_ms() + event.for_ms)
        finally:
            await fault.heal()

    async with asyncio.TaskGroup() as tasks:
        for event, fault in zip(events, faults, strict=True):
            tasks.create_task(one(event, fault))
    for fault in faults:
        fault.check_reached()


async def _at(at_ms: int) -> None:
    await asyncio.sleep(max(0, at_ms - now_ms()) / 1000)


async def _restock(live: Sale, plan: Plan) -> None:
    begun_ms = now_ms()
    for number in range(1, plan.restocks + 1):
        await _at(begun_ms + plan.span_ms * number // (plan.restocks + 1))
        await live.restock(plan.add)


async def _give_back(live: Sale, plan: Plan, chance: random.Random) -> None:
    """Coupons of buyers who know that they have them come back, each once."""
    begun_ms = now_ms()
    for number in range(1, plan.returns + 1):
        await _at(begun_ms + plan.span_ms * number // (plan.returns + 1))
        given = {one.serial for one in live.history.returns}
        if known := sorted(live.history.acknowledged().keys() - given):
            await live.give_back(chance.choice(known))


def _asks(plan: Plan, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Users drawn again and again: the same key as before, now and then a second one."""
    for _ in range(plan.asks):
        user = chance.randrange(plan.users)
        yield f"u{user}", f"k{user}-{int(chance.random() < 0.2)}"


def _endless(over: asyncio.Event) -> Iterator[tuple[str, str]]:
    number = 0
    while not over.is_set():
        number += 1
        yield f"u{number}", f"k{number}"


def _open_questions(history: History) -> list[tuple[str, str]]:
    """Keys that were never told yes or no, and some that won."""
    told: dict[tuple[str, str], Answer] = {}
    for ask in history.asks:
        if told.get((ask.user, ask.key)) is not Answer.OK:
            told[ask.user, ask.key] = ask.answer
    unknown = [key for key, answer in told.items() if answer is Answer.UNKNOWN]
    won = [key for key, answer in told.items() if answer is Answer.OK]
    owners = {ask.serial: (ask.user, ask.key) for ask in history.acknowledged().values()}
    back = {owners[one.serial] for one in history.returns}
    return unknown + sorted(back) + [key for key in won if key not in back][:WINNERS_ASKED]
