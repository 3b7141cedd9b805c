"""Rate limits of a process: its own buckets first, then lua/limit.lua for all that came together.

What the buckets refuse costs no Redis command. Without the limiter's server, or where it is slow,
they alone hold: each process then lets as much through as all of them should, and an alarm says so.
Nothing of the stock depends on it.
"""

import asyncio
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog

from flashgrab.alarms import HOLD_MS, Alarm
from flashgrab.errors import FlashgrabError
from flashgrab.limits import Policies
from flashgrab.scripts import LIMIT
from flashgrab.telemetry import Metrics
from flashgrab.wire import ScriptMissing, Wire
from gateway.buckets import Buckets, Names
from gateway.ratelimit import REFUSED, ROOM, Verdict

KEYS_MAX = 2000
"""Counters of one call: Lua's `unpack` fails at some thousands."""
TURNS_MAX = 8
"""Turns of the loop that a call may go on gathering, as of grabs (gateway/batch.py)."""
WARM_MS = 1000
BY = "limits"
DIGITS = "123456789"
"""Of the slots of a request, as the script knows them."""

log = structlog.get_logger()


class Waiter(Protocol):
    """Who waits for the limits. Called once."""

    def limited(self, verdict: Verdict) -> None:
        """They have been looked at."""
        ...


@dataclass(slots=True)
class _Call:
    """Requests of one script call: who waits, what each is counted on, and each counter once."""

    waiters: list[Waiter] = field(default_factory=list)
    names: list[Names] = field(default_factory=list)
    places: dict[bytes, int] = field(default_factory=dict)
    of: list[str] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)


class Limiter:
    """One a process. `wire` leads to the limiter's server; None: each process limits alone."""

    def __init__(self, wire: Wire | None, wait_ms: int, queue_max: int, metrics: Metrics) -> None:
        self.wire = wire
        self.buckets = Buckets()
        self._wait_ms = wait_ms
        self._queue_max = queue_max
        self._metrics = metrics
        self.took = metrics.script_took
        self._alone = metrics.tally(("flashgrab_limited_alone", ()))
        self._queues: dict[Policies, _Queue] = {}
        self.waiting = 0
        """Requests that wait for the script."""

    async def start(self) -> None:
        """Connect; a server that does not answer holds nothing up for long."""
        if self.wire is not None:
            self.wire.start()
            with suppress(TimeoutError):
                async with asyncio.timeout(WARM_MS / 1000):
                    await self.wire.connected.wait()

    async def stop(self) -> None:
        if self.wire is not None:
            await self.wire.stop()

    def enter(
        self,
        policies: Policies,
        user: bytes,
        device: bytes,
        networks: tuple[bytes, bytes],
        waiter: Waiter,
    ) -> Verdict | None:
        """Count a request. None: it waits for the script, and the waiter hears of it, in time."""
        names, wire = policies.names(user, device, networks), self.wire
        if wire is None:
            return self.buckets.take(policies, names)
        if not wire.connected.is_set() or self.waiting >= self._queue_max:
            verdict = self.buckets.take(policies, names)
            self._alone.count += verdict.left != REFUSED
            return verdict
        if (refusal := self.buckets.refusal(policies, names)) is not None:
            return refusal
        queue = self._queues.get(policies)
        if queue is None:
            queue = self._queues[policies] = _Queue(self, wire, policies, self._wait_ms)
        self.waiting += 1
        queue.enter(names, waiter)
        return None

    async def check(
        self, policies: Policies, user: bytes, device: bytes, networks: tuple[bytes, bytes]
    ) -> Verdict:
        """enter(), for the ordinary routes."""
        answer = _Answer()
        verdict = self.enter(policies, user, device, networks, answer)
        return await answer.future if verdict is None else verdict

    def alone(self, requests: int, why: str) -> None:
        """So many were counted by the buckets alone."""
        self._alone.count += requests
        self._metrics.alarms.begin(Alarm.LIMITER_GONE, why, by=BY, hold_ms=HOLD_MS)

    def look(self, standing: set[Policies]) -> None:
        """Begin and end its alarm (gateway/watch.py); forget the queues of what stands no more."""
        if self.wire is not None:
            gone = not self.wire.connected.is_set()
            self._metrics.alarms.when(gone, Alarm.LIMITER_GONE, self.wire.problem, by="watch")
        for policies in [p for p, q in self._queues.items() if p not in standing and q.is_idle]:
            del self._queues[policies]


class _Answer:
    """A waiter as a future."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()

    def limited(self, verdict: Verdict) -> None:
        if not self.future.done():
            self.future.set_result(verdict)


class _Queue:
    """The calls of one kind of request of one campaign: one in flight, the next ones fill."""

    def __init__(self, limiter: Limiter, wire: Wire, policies: Policies, wait_ms: int) -> None:
        self._limiter = limiter
        self._wire = wire
        self._policies = policies
        self._slots = len(policies.policies)
        self._wait_ms = wait_ms
        self._loop = asyncio.get_running_loop()
        self._filling = _Call()
        self._full: deque[_Call] = deque()
        self._in_flight = False
        self._flush_due = False
        self._gathered = self._turns = 0

    @property
    def is_idle(self) -> bool:
        return not (self._in_flight or self._full or self._filling.waiters)

    def enter(self, names: Names, waiter: Waiter) -> None:
        """Put a request into the next call."""
        call = self._filling
        places = call.places
        if len(places) + self._slots > KEYS_MAX:
            self._full.append(call)
            call = self._filling = _Call()
            places = call.places
        call.waiters.append(waiter)
        call.names.append(names)
        counts, asked = call.counts, call.asked
        for digit, name in zip(DIGITS, names, strict=False):
            if name is None:
                asked.append(0)
                continue
            place = places.get(name)
            if place is None:
                counts.append(1)
                place = places[name] = len(counts)
                call.of.append(digit)
            else:
                counts[place - 1] += 1
            asked.append(place)
        if not (self._in_flight or self._flush_due):
            self._flush_due = True
            self._gathered, self._turns = len(call.waiters), 0
            self._loop.call_soon(self._gather)

    def _gather(self) -> None:
        """Ask when a turn of the loop has brought nothing new, or after TURNS_MAX of them."""
        size = len(self._filling.waiters)
        arrived, self._gathered = size > self._gathered, size
        self._turns += 1
        if arrived and not self._full and self._turns < TURNS_MAX:
            self._loop.call_soon(self._gather)
        else:
            self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        while not self._in_flight and (self._full or self._filling.waiters):
            if self._full:
                call = self._full.popleft()
            else:
                call, self._filling = self._filling, _Call()
            self._ask(call, again=False)

    def _ask(self, call: _Call, *, again: bool) -> None:
        policies, of, started = self._policies.text, "".join(call.of), time.perf_counter()
        args = [policies, of, self._slots, _packed(call.counts), _packed(call.asked)]
        try:
            said = self._wire.call(LIMIT, list(call.places), args, self._wait_ms)  # type: ignore[arg-type]
        except FlashgrabError as error:
            self._give_up(call, error)
            return
        self._in_flight = True
        said.add_done_callback(partial(self._heard, call, again, started))

    def _heard(
        self, call: _Call, again: bool, started: float, reply: "asyncio.Future[list[Any]]"
    ) -> None:
        self._in_flight = False
        try:
            results = _read(reply.result(), len(call.waiters))
            self._limiter.took(LIMIT.name, time.perf_counter() - started)
            self._tell(call, results)
        except ScriptMissing as error:
            if again:
                self._give_up(call, error)
            else:
                self._load_and_ask(call)
        except Exception as error:
            self._give_up(call, error)
        self._flush()

    def _load_and_ask(self, call: _Call) -> None:
        """The server has forgotten the script: nothing was counted. Both go one after the other."""
        try:
            loading = self._wire.send(self._wait_ms, "SCRIPT", "LOAD", LIMIT.text)
        except FlashgrabError as error:
            self._give_up(call, error)
            return
        loading.add_done_callback(lambda loaded: loaded.cancelled() or loaded.exception())
        self._ask(call, again=True)

    def _tell(self, call: _Call, results: Sequence[Any]) -> None:
        buckets, policies = self._limiter.buckets, self._policies
        self._limiter.waiting -= len(call.waiters)
        if not results:
            for waiter in call.waiters:
                _say(waiter, ROOM)
            return
        for waiter, names, result in zip(call.waiters, call.names, results, strict=True):
            verdict = ROOM
            if result:
                left, slot, wait_us = result
                policy = policies.policies[slot - 1]
                verdict = Verdict(policies, policy, left, wait_us, False)
                if left == REFUSED:
                    buckets.refuse_until(policies, names, slot - 1, wait_us)
            _say(waiter, verdict)

    def _give_up(self, call: _Call, error: Exception) -> None:
        """The buckets count these instead."""
        self._limiter.waiting -= len(call.waiters)
        self._limiter.alone(len(call.waiters), str(error) or type(error).__name__)
        take = self._limiter.buckets.take
        for waiter, names in zip(call.waiters, call.names, strict=True):
            _say(waiter, take(self._policies, names))


def _read(said: Any, requests: int) -> Sequence[Any]:
    """The results of a reply, none where all are 0. Raises ValueError where it makes no sense: none
    may reach anybody."""
    results: Sequence[Any] = said[2:]
    if not results and len(said) == 2:
        return results
    if len(results) != requests or not all(r == 0 or len(r) == 3 for r in results):
        raise ValueError(f"no reply to {requests} requests")
    return results


def _packed(numbers: list[int]) -> bytes:
    """Two bytes each, the high one first."""
    found = array("H", numbers)
    if sys.byteorder == "little":
        found.byteswap()
    return found.tobytes()


def _say(waiter: Waiter, verdict: Verdict) -> None:
    try:
        waiter.limited(verdict)
    except Exception:  # of one: the others have their answers still to come
        log.exception("limit_answer_failed")
