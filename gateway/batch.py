"""One script call for many grabs: what arrives in one turn of the loop goes to Redis together."""

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import structlog

from flashgrab import keys
from flashgrab.alarms import HOLD_MS, Alarm
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.outcomes import Outcome, Verdict
from flashgrab.scripts import GRAB
from flashgrab.telemetry import Metrics
from flashgrab.wire import Calls, ScriptMissing
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
LATE_SHARE = 0.1
"""A request with less than this share of its time left is answered unsent: a call cut short by
its deadline takes down the connection, and with it the calls of all other campaigns."""

DECIDED = Verdict.DECIDED.value
ALARMS = {
    Verdict.MISSING: Alarm.REDIS_DATA_LOST,
    Verdict.FLOOR: Alarm.REDIS_STALE,
    Verdict.SCHEMA: Alarm.SCHEMA_UNKNOWN,
}
HEAD = 7
"""Words of a reply before the results: the verdict, and what Reply has."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """batch_max and queue_max in requests, deadline_ms from arrival to answer."""

    batch_max: int
    queue_max: int
    deadline_ms: int


@dataclass(slots=True)
class _Batch:
    """Grabs in the order of their arrival: who waits, since when (monotonic s), and what the
    script is told of each: user, device, request id."""

    waiters: list[Waiter] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.waiters)

    def first(self, size: int) -> "_Batch":
        """Its first grabs, which are in it no more."""
        taken = _Batch(self.waiters[:size], self.since[:size], self.words[: 3 * size])
        del self.waiters[:size], self.since[:size], self.words[: 3 * size]
        return taken


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
        self._wire = wire
        self._clock = clock
        self._bounds = bounds
        self._deadline_s = bounds.deadline_ms / 1000
        self._least_ms = bounds.deadline_ms * LATE_SHARE
        self._metrics = metrics
        self._memory = memory
        self._loop = asyncio.get_running_loop()
        self._waiting = _Batch()
        self._calls = 0
        self._in_flight = 0
        self._asking: set[asyncio.Task[None]] = set()
        self._flush_due = False
        self._took_s: deque[float] = deque(maxlen=LOOK_BACK)
        self._calls_max = CALLS_MAX
        self._enough = 0  # requests that end the wait after a call; 0: there is none
        self._wait: asyncio.TimerHandle | None = None
        self._said = ""
        self.turned_away = 0
        """Grabs that found the queue full."""
        self._gathered = 0  # requests that waited at the last turn
        self._turns = 0

    @property
    def requests(self) -> int:
        """Requests that wait or are in flight."""
        return len(self._waiting) + self._in_flight

    def submit(self, user_id: str, device_id: str, key: str) -> "asyncio.Future[Decision]":
        """Put a grab into the batch of this turn. The future never raises, and ends in time."""
        answer = _Answer()
        self.enter(user_id.encode(), device_id.encode(), key.encode(), answer)
        return answer.future

    def enter(self, user: bytes, device: bytes, request_id: bytes, waiter: Waiter) -> None:
        """Put a grab into the batch of this turn; the waiter hears of it, in time."""
        waiting, now = self._waiting, time.monotonic()
        size = len(waiting.waiters)
        if size + self._in_flight >= self._bounds.queue_max:
            self.turned_away += 1
            self._give_up(_Batch([waiter], [now]), Outcome.BUSY)
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
            batch, self._waiting = self._waiting, _Batch()
            if len(batch) > self._bounds.batch_max:
                self._waiting = batch
                batch = batch.first(self._bounds.batch_max)
            self._start(batch)

    def _may_call(self) -> bool:
        """At once while nothing is in flight; beside a call only with as many as it carries."""
        if not self._calls:
            return True
        return self._calls < self._calls_max and len(self._waiting) >= self._in_flight

    def _refuse_late(self) -> None:
        before = time.monotonic() - self._deadline_s * (1 - LATE_SHARE)
        if len(self._waiting) and self._waiting.since[0] < before:
            late = bisect_left(self._waiting.since, before)
            self._alarm(Alarm.REDIS_SLOW, f"{late} grabs waited too long to be asked for")
            self._give_up(self._waiting.first(late), Outcome.BACKEND_UNAVAILABLE)

    # -- a call ------------------------------------------------------------------------------------

    def _start(self, batch: _Batch) -> None:
        """The first call of a batch. Its reply comes without a task: mostly nothing else does."""
        self._calls += 1
        self._in_flight += len(batch)
        started, call = time.perf_counter(), None
        with suppress(Exception):  # _ask() meets it again
            question = self._question(batch)
            if question is not None and self._wire.connected.is_set():
                call = self._wire.call(GRAB, *question, self._bounds.deadline_ms // 2)
        if call is None:
            self._go_on(batch, None)
        else:
            call.add_done_callback(partial(self._heard, batch, started))

    def _heard(self, batch: _Batch, started: float, call: "asyncio.Future[list[Any]]") -> None:
        try:
            said = call.result()
            self._note(batch, started, said)
            decided = said[0] == DECIDED
        except Exception:  # _ask() meets it again
            decided = False
        if decided:
            self._end(batch, said, Outcome.BACKEND_UNAVAILABLE)
            self._after(len(batch), time.perf_counter() - started)
        else:
            self._go_on(batch, call)

    def _go_on(self, batch: _Batch, first: "asyncio.Future[list[Any]] | None") -> None:
        """A batch whose first call was not made, or did not decide, takes longer."""
        asking = self._loop.create_task(self._decide(batch, first))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _decide(self, batch: _Batch, first: "asyncio.Future[list[Any]] | None") -> None:
        outcome, said = Outcome.BACKEND_UNAVAILABLE, None
        try:
            said = await self._ask(batch, first)
            if said[0] != DECIDED:
                self._refused(Verdict(said[0]), said[3])
                outcome, said = Outcome.NOT_WARMED, None
        except StoreUnavailable as error:
            self._alarm(Alarm.REDIS_SLOW, str(error))
        except StoreRefused as error:
            self._alarm(Alarm.REDIS_REFUSES, str(error))
        except Exception as error:
            said = None
            self._failed(error)
        self._end(batch, said, outcome)
        self._flush()

    async def _ask(self, batch: _Batch, first: "asyncio.Future[list[Any]] | None") -> list[Any]:
        """Ask the script; once more where the reply was lost (the request ids make it a replay)
        or other rounds are current than this process thought. All inside the oldest deadline."""
        deadline = batch.since[0] + self._deadline_s
        resent = moved = False
        while True:
            try:
                said = await (self._call(batch, deadline, resent) if first is None else first)
            except ScriptMissing:
                if first is None:
                    raise
            except StoreUnavailable as error:
                self._alarm(Alarm.REDIS_SLOW, str(error))
                if resent or self._left_ms(deadline) < self._least_ms:
                    raise
                resent = True
                self._metrics.add("flashgrab_resends")
            else:
                if said[0] != Verdict.MOVED.value or moved:
                    return said
                moved = True
            first = None

    def _left_ms(self, deadline: float) -> int:
        return int((deadline - time.monotonic()) * 1000)

    async def _connected(self, deadline: float) -> None:
        if self._wire.connected.is_set():
            return
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._wire.connected.wait()
        except TimeoutError:
            raise StoreUnavailable("Redis is not connected") from None

    async def _call(self, batch: _Batch, deadline: float, resent: bool) -> list[Any]:
        await self._connected(deadline)
        left_ms = self._left_ms(deadline)
        if left_ms < self._least_ms:
            raise StoreUnavailable("too late to ask")
        timeout_ms = left_ms if resent else left_ms // 2
        started, question = time.perf_counter(), self._question(batch)
        if question is None:
            return [Verdict.MISSING.value, 0, 0, 0, 0, 0, -1]
        said: list[Any] = await self._wire.run(GRAB, *question, timeout_ms)
        self._note(batch, started, said)
        return said

    def _question(self, batch: _Batch) -> tuple[list[str], list[Any]] | None:
        """Keys and arguments of the script; None while the campaign is not known."""
        campaign = self._campaign
        found = campaign.current(self._clock.now_ms())
        if campaign.state is None or found is None:
            return None
        round_, following, after_ms = found
        name = campaign.campaign_id
        touched = [
            keys.campaign(name),
            keys.holders(name),
            keys.devices(name),
            keys.outbox(name),
            keys.round_(name, round_.number),
            keys.round_(name, following.number if following else round_.number),
        ]
        args = [campaign.state.schema, campaign.state.epoch, self._wire.run_id]
        args += [campaign.floor, round_.number, after_ms, campaign.ends_at]
        return touched, args + batch.words

    def _note(self, batch: _Batch, started: float, said: list[Any]) -> None:
        self._metrics.observe("flashgrab_script_seconds", time.perf_counter() - started, ("grab",))
        self._metrics.observe("flashgrab_batch_size", len(batch))
        self._clock.observe(said[4])

    # -- its end -----------------------------------------------------------------------------------

    def _end(self, batch: _Batch, said: list[Any] | None, outcome: Outcome) -> None:
        """All hear what was said, or this outcome."""
        self._calls -= 1
        self._in_flight -= len(batch)
        reply, results = None, None
        if said is not None:
            try:
                reply = Reply(*said[1:HEAD])
                results = _read(batch, reply, said[HEAD:])
            except Exception as error:
                self._failed(error)
        if reply is None or results is None:
            self._give_up(batch, outcome)
        else:
            self._tell(batch, reply, results)

    def _tell(self, batch: _Batch, reply: Reply, results: Sequence[int | Decision]) -> None:
        campaign = self._campaign
        self._said = ""
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
        if Outcome.BUSY.name in outcomes:
            self._alarm(Alarm.OUTBOX_FULL, campaign=campaign.campaign_id)
        outcomes[Outcome.GRANTED.name] = outcomes.get(Outcome.GRANTED.name, 0) + granted
        self._count(batch, outcomes)

    def _give_up(self, batch: _Batch, outcome: Outcome) -> None:
        """The script was not asked, or said nothing that could be passed on."""
        for waiter in batch.waiters:
            waiter.decided(Decision(outcome))
        self._count(batch, {outcome.name: len(batch)})

    def _count(self, batch: _Batch, outcomes: dict[str, int]) -> None:
        for name, count in outcomes.items():
            if count:
                labels = (self._campaign.campaign_id, name)
                self._metrics.add("flashgrab_grabs", labels, count)
        self._metrics.observe_since("flashgrab_grab_seconds", time.monotonic(), batch.since)

    def _failed(self, error: Exception) -> None:
        if self._is_new(repr(error)):
            log.error("batch_failed", campaign=self._campaign.campaign_id, exc_info=error)

    def _refused(self, verdict: Verdict, seq: int) -> None:
        name = self._campaign.campaign_id
        if verdict in ALARMS and self._campaign.state is not None:
            reason = f"it has given {seq} seqs, {self._campaign.floor} were seen"
            self._alarm(ALARMS[verdict], reason, campaign=name)
        self._metrics.add("flashgrab_not_warmed", (name, verdict.name))

    def _alarm(self, alarm: Alarm, reason: str = "", campaign: str = "") -> None:
        alarms = self._metrics.alarms
        alarms.begin(alarm, reason, campaign=campaign, by="grabs", hold_ms=HOLD_MS)

    def _is_new(self, problem: str) -> bool:
        """A problem is said once, not for each batch that it lasts."""
        was, self._said = self._said, problem
        return was != problem


def _read(batch: _Batch, reply: Reply, results: list[Any]) -> Sequence[int | Decision]:
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
