"""Which grabs go to Redis together, and when: what arrives in one turn of the loop is one call."""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from typing import Any

import structlog

from flashgrab.alarms import Alarm
from flashgrab.outcomes import Outcome
from flashgrab.telemetry import Metrics, Tally
from flashgrab.wire import Calls
from gateway.call import LATE_SHARE, Asker, Batch, Bounds
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Reply, Waiter, decision_of, new_grant
from gateway.memory import Memory
from gateway.redis_clock import RedisClock

CALLS_MAX = 2
"""Script calls of one campaign in flight at once; the next batch fills meanwhile."""
TURNS_MAX = 8
"""Turns of the loop that a batch may go on gathering: some 10 µs each while nothing else is to be
done, and each of them brings requests that would otherwise have to wait for this call to end."""
SLOW_S = 0.004
"""Where the quickest of the last calls took so long, Redis waits for its disk: it does so once a
call, so that one call with all who wait is worth two of half the width. Then there is one at a
time, and after it the next waits a little for those who were in it: they come back soon."""
WAIT_SHARE, WAIT_S_MAX = 0.25, 0.002
LOOK_BACK = 8
"""Calls."""
HEAD = 7
"""Words of a reply before the results: the verdict, and what Reply has."""
TURNED_AWAY = Decision(Outcome.BUSY)
BUSY, GRANTED = Outcome.BUSY.name, Outcome.GRANTED.name  # an Enum's own property is Python

log = structlog.get_logger()


class _Answer:
    """A waiter as a future, for the ordinary route."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()

    def granted(self, serial: int, reply: Reply) -> None:
        self.decided(new_grant(serial, reply))

    def decided(self, decision: Decision) -> None:
        if not self.future.done():
            self.future.set_result(decision)


class Batcher:
    """The batches of one campaign in this process."""

    def __init__(
        self,
        campaign: Campaign,
        wire: Calls,
        clock: RedisClock,
        bounds: Bounds,
        metrics: Metrics,
        memory: Memory,
    ) -> None:
        self._campaign = campaign
        self._bounds = bounds
        self._late_s = bounds.deadline_ms / 1000 * (1 - LATE_SHARE)
        self._metrics = metrics
        self._memory = memory
        self._asker = Asker(campaign, wire, clock, bounds, metrics, self._ended)
        self._loop = asyncio.get_running_loop()
        self._waiting = Batch()
        self._calls = 0
        self._in_flight = 0
        self._flush_due = False
        self._took_s: deque[float] = deque(maxlen=LOOK_BACK)
        self._calls_max = CALLS_MAX
        self._enough = 0  # requests that end the wait after a call; 0: there is none
        self._wait: asyncio.TimerHandle | None = None
        self._gathered = 0  # requests that waited at the last turn
        self._turns = 0
        self.limit = bounds.queue_max
        """Requests that may wait or be in flight; gateway/pace.py lowers it under overload."""
        self.turned_away = 0
        """Grabs that found the queue full."""
        self._shed: Tally | None = None
        self.decided = 0
        """Grabs whose call has ended."""

    @property
    def requests(self) -> int:
        """Requests that wait or are in flight."""
        return len(self._waiting) + self._in_flight

    @property
    def shed(self) -> int:
        """Grabs that were turned away because of the limit, before the queue was full."""
        return self._shed.count if self._shed is not None else 0

    def standing_ms(self) -> int:
        """How long the oldest has waited where more wait than the next call takes, else 0."""
        waiting = self._waiting
        if len(waiting) <= self._bounds.batch_max:
            return 0
        return int((time.monotonic() - waiting.since[0]) * 1000)

    def submit(
        self, user_id: str, device_id: str, key: str, since: float | None = None
    ) -> "asyncio.Future[Decision]":
        """Put a grab into the batch of this turn. The future never raises, and ends in time."""
        answer = _Answer()
        grab = (user_id.encode(), device_id.encode(), key.encode(), answer)
        if since is None:
            self.enter(*grab)
        else:
            self.enter_late(*grab, since)
        return answer.future

    def enter_late(
        self, user: bytes, device: bytes, request_id: bytes, waiter: Waiter, since: float
    ) -> None:
        """enter() for one that has waited for its limits `since` a moment (monotonic s): his time
        to the answer, and his deadline, run from there."""
        waiting = self._waiting
        before = len(waiting)
        self.enter(user, device, request_id, waiter)
        if len(waiting) > before:  # not turned away
            earlier = waiting.since[-2] if before else since  # they stay in order
            waiting.since[-1] = max(since, earlier)

    def enter(self, user: bytes, device: bytes, request_id: bytes, waiter: Waiter) -> None:
        """Put a grab into the batch of this turn; the waiter hears of it, in time."""
        waiting, now = self._waiting, time.monotonic()
        size = len(waiting.waiters)
        if size + self._in_flight >= self.limit:
            self._turn_away(waiter, now)
            return
        waiting.waiters.append(waiter)
        waiting.since.append(now)
        waiting.words += (user, device, request_id)
        if self._flush_due:
            if size + 1 == self._enough:
                self._flush()
        elif self._may_call():
            self._flush_due = True
            self._gathered, self._turns = size + 1, 0
            self._loop.call_soon(self._gather)

    def _turn_away(self, waiter: Waiter, now: float) -> None:
        """Told at once. Under overload it is all that most get, and costs little on purpose."""
        if self.limit >= self._bounds.queue_max:
            self.turned_away += 1
            self._give_up(Batch([waiter], [now]), Outcome.BUSY)
            return
        if self._shed is None:
            name = self._campaign.campaign_id
            self._shed = self._metrics.tally(
                ("flashgrab_shed", (name,)), ("flashgrab_grabs", (name, Outcome.BUSY.name))
            )
        self._shed.count += 1
        waiter.decided(TURNED_AWAY)

    # -- when a call is made -----------------------------------------------------------------------

    def _gather(self) -> None:
        """Flush when a turn of the loop has brought nothing new, or after TURNS_MAX of them."""
        size = len(self._waiting)
        arrived, self._gathered = size > self._gathered, size
        self._turns += 1
        if arrived and self._turns < TURNS_MAX and size < self._bounds.batch_max:
            self._loop.call_soon(self._gather)
        else:
            self._flush()

    def _after(self, size: int, took_s: float) -> None:
        """A call of so many has ended: the next one now, or when they have come back."""
        self._took_s.append(took_s)
        quickest_s = min(self._took_s)
        self._calls_max = CALLS_MAX if quickest_s < SLOW_S else 1
        if quickest_s < SLOW_S or self._calls or self._flush_due:
            self._flush()
        else:
            self._flush_due, self._enough = True, len(self._waiting) + size
            wait_s = min(quickest_s * WAIT_SHARE, WAIT_S_MAX)
            self._wait = self._loop.call_later(wait_s, self._flush)

    def _flush(self) -> None:
        self._flush_due, self._enough = False, 0
        if self._wait is not None:
            self._wait.cancel()
            self._wait = None
        self._refuse_late()
        while len(self._waiting) and self._may_call():
            batch, self._waiting = self._waiting, Batch()
            if len(batch) > self._bounds.batch_max:
                self._waiting = batch
                batch = batch.first(self._bounds.batch_max)
            self._calls += 1
            self._in_flight += len(batch)
            self._asker.ask(batch)

    def _may_call(self) -> bool:
        """At once while nothing is in flight; beside a call only with as many as it carries."""
        if not self._calls:
            return True
        return self._calls < self._calls_max and len(self._waiting) >= self._in_flight

    def _refuse_late(self) -> None:
        before = time.monotonic() - self._late_s
        if len(self._waiting) and self._waiting.since[0] < before:
            late = bisect_left(self._waiting.since, before)
            self._asker.alarm(Alarm.REDIS_SLOW, f"{late} grabs waited too long to be asked for")
            self._give_up(self._waiting.first(late), Outcome.BACKEND_UNAVAILABLE)

    # -- its end -----------------------------------------------------------------------------------

    def _ended(self, batch: Batch, said: list[Any] | None, outcome: Outcome, took_s: float) -> None:
        """All hear what was said, or this outcome; then it is the next one's turn."""
        self._calls -= 1
        self._in_flight -= len(batch)
        self.decided += len(batch)
        reply, results = None, None
        if said is not None:
            try:
                reply = Reply(*said[1:HEAD])
                results = _read(batch, reply, said[HEAD:])
            except Exception as error:
                self._asker.failed(error)
        if reply is None or results is None:
            self._give_up(batch, outcome)
        else:
            self._tell(batch, reply, results)
        if took_s:
            self._after(len(batch), took_s)
        else:
            self._flush()

    def _tell(self, batch: Batch, reply: Reply, results: Sequence[int | Decision]) -> None:
        campaign = self._campaign
        self._asker.fine()
        if campaign.state is not None and reply.epoch == campaign.state.epoch:
            campaign.learn(reply.generation, reply.seq, reply.round, reply.left, reply.now_ms)
        outcomes: dict[str, int] = {}
        granted = at = 0
        for waiter, result in zip(batch.waiters, results, strict=True):
            try:
                if isinstance(result, int):
                    granted += 1
                    waiter.granted(result, reply)
                else:
                    name = result.outcome.name
                    outcomes[name] = outcomes.get(name, 0) + 1
                    user, device, request_id = batch.words[at : at + 3]
                    self._memory.learn(campaign, user, device, request_id, result, reply)
                    waiter.decided(result)
            except Exception:  # of one: the others have their answers still to come
                log.exception("answer_failed", campaign=campaign.campaign_id)
            at += 3
        if BUSY in outcomes:
            self._asker.alarm(Alarm.OUTBOX_FULL, campaign=campaign.campaign_id)
        outcomes[GRANTED] = outcomes.get(GRANTED, 0) + granted
        self._count(batch, outcomes)

    def _give_up(self, batch: Batch, outcome: Outcome) -> None:
        """The script was not asked, or said nothing that could be passed on."""
        for waiter in batch.waiters:
            waiter.decided(Decision(outcome))
        self._count(batch, {outcome.name: len(batch)})

    def _count(self, batch: Batch, outcomes: dict[str, int]) -> None:
        for name, count in outcomes.items():
            if count:
                labels = (self._campaign.campaign_id, name)
                self._metrics.add("flashgrab_grabs", labels, count)
        self._metrics.observe_since("flashgrab_grab_seconds", time.monotonic(), batch.since)


def _read(batch: Batch, reply: Reply, results: list[Any]) -> Sequence[int | Decision]:
    """New serials as they are, anything else in words. Raises where one makes no sense: nothing of
    such a reply may reach anybody."""
    if len(results) != len(batch):
        raise ValueError(f"{len(results)} results for {len(batch)} grabs")
    if set(map(type, results)) == {int} and min(results) > 0:
        return results
    ids = batch.words[2::3]
    return [
        result if type(result) is int and result > 0 else decision_of(result, reply, request_id)
        for result, request_id in zip(results, ids, strict=True)
    ]
