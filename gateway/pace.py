"""Whether this process keeps up, looked at fifty times a second beside the grabs.

Two things can be too slow. Redis: then grabs stand in a campaign's queue, and admission.py says how
many may. This process' own loop: then requests stand unread in the system's buffers. Turning one
away costs half of what granting it does, so that refusing would serve fewer people no faster; what
helps is to leave them unread, those who connect now rather than those who are here. New connections
are held then: accepted, and not read from until the loop is on time or their turn has come.
"""

import asyncio
from collections import deque
from typing import Protocol

from flashgrab.alarms import Alarm
from flashgrab.clock import Clock
from flashgrab.telemetry import Metrics
from gateway.admission import CALLS_FULL, Admission, Aims, Standing
from gateway.batch import Batcher
from gateway.call import Bounds

LOOK_MS = 20
INTERVAL_WAITS = 5
"""How many times the wait aimed at a queue must stand to be overload."""
HELD_MS_MAX = 1000
"""A new connection is read from after so long whatever the loop does: nobody starves."""
FREED_MAX = 64
"""Connections a look that are let in once the loop is on time again."""
BY = "pace"


class Held(Protocol):
    """A connection that is not read from."""

    def let_in(self) -> None:
        """Read from it now, if it is still there."""
        ...


class Pace:
    """One a process. `wait_ms` is the wait aimed at; 0: nothing is held or turned away here."""

    def __init__(self, wait_ms: int, bounds: Bounds, clock: Clock, metrics: Metrics) -> None:
        self._wait_ms = wait_ms
        self._interval_ms = wait_ms * INTERVAL_WAITS
        self._bounds = bounds
        self._clock = clock
        self._metrics = metrics
        self._admissions: dict[str, Admission] = {}
        self._loop = Standing(wait_ms, self._interval_ms)
        self._held: deque[tuple[int, Held]] = deque()
        self.late = False
        """Whether the loop is too slow for what is connected."""
        self.late_ms = 0
        """By how much the last look was late."""

    async def keep(self, batchers: dict[str, Batcher]) -> None:
        """look(), for ever."""
        if not self._wait_ms:
            return
        due_ms = self._clock.monotonic_ms()
        while True:
            due_ms += LOOK_MS
            await asyncio.sleep(max(0, due_ms - self._clock.monotonic_ms()) / 1000)
            now_ms = self._clock.monotonic_ms()
            self.look(batchers, now_ms, max(0, now_ms - due_ms))
            due_ms = now_ms

    def look(self, batchers: dict[str, Batcher], now_ms: int, late_ms: int) -> None:
        """At all queues and at the loop, which came to this look so much too late."""
        self._look_at_loop(now_ms, late_ms)
        over = {}
        for name, batcher in list(batchers.items()):
            admission = self._admissions.get(name)
            if admission is None:
                admission = self._admissions[name] = Admission(self._aims())
            if not batcher.requests and not admission.sheds:
                continue
            wait_ms, was = batcher.standing_ms(), admission.sheds
            limit = admission.look(now_ms, wait_ms, batcher.decided, batcher.shed)
            batcher.limit = limit
            if admission.sheds:
                over[name] = (
                    f"{batcher.requests} wait, the oldest for {wait_ms} ms; {admission.rate}/s"
                    f" are decided, so that {limit} may wait"
                )
                self._metrics.set("flashgrab_admitted_max", (name,), limit)
            elif was:
                self._metrics.drop("flashgrab_admitted_max", (name,))
        self._metrics.alarms.only(Alarm.OVERLOADED, over, by=BY)

    def _aims(self) -> Aims:
        ceiling = self._bounds.queue_max
        floor = min(ceiling, CALLS_FULL * self._bounds.batch_max)
        return Aims(self._wait_ms, self._interval_ms, floor, ceiling)

    # -- the loop ----------------------------------------------------------------------------------

    def hold(self, connection: Held) -> None:
        """A new one, while the loop is late."""
        self._held.append((self._clock.monotonic_ms() + HELD_MS_MAX, connection))

    @property
    def held(self) -> int:
        """Connections that are held now."""
        return len(self._held)

    def _look_at_loop(self, now_ms: int, late_ms: int) -> None:
        self.late_ms = late_ms
        self.late = self._loop.sees(late_ms, now_ms)
        reason = f"by {late_ms} ms"
        self._metrics.alarms.when(self.late, Alarm.LOOP_LATE, reason, by=BY)
        free = 0 if self.late else FREED_MAX
        while self._held and (free > 0 or self._held[0][0] <= now_ms):
            free -= 1
            self._held.popleft()[1].let_in()
