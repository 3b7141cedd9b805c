"""One script call for many grabs: what arrives in one turn of the loop goes to Redis together."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import structlog

from flashgrab import keys
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.outcomes import Outcome, Verdict
from flashgrab.scripts import GRAB, SCHEMA
from flashgrab.telemetry import Metrics
from flashgrab.wire import Wire
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Reply, Waiter, decision_of, new_grant
from gateway.memory import Memory
from gateway.redis_clock import RedisClock

CALLS_MAX = 2
"""Script calls of one campaign in flight at once; the next batch fills meanwhile."""
TURNS_MAX = 8
"""Turns of the loop that a batch may go on gathering: some 10 µs each while nothing else is to be
done, and each of them brings requests that would otherwise have to wait for this call to end."""
LATE_SHARE = 0.1
"""A request with less than this share of its time left is answered unsent: a call cut short by
its deadline takes down the connection, and with it the calls of all other campaigns."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """batch_max and queue_max in requests, deadline_ms from arrival to answer."""

    batch_max: int
    queue_max: int
    deadline_ms: int


_Waiting = tuple[bytes, bytes, bytes, float, Waiter]
"""User, device, request id, deadline (monotonic s), and who waits."""


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
        wire: Wire,
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
        self._metrics = metrics
        self._memory = memory
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._flush_due = False
        self._said = ""
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
        waiting = (user, device, request_id, time.monotonic() + self._deadline_s, waiter)
        if len(self._waiting) + self._in_flight >= self._bounds.queue_max:
            self._give_up([waiting], Outcome.BUSY)
            return
        self._waiting.append(waiting)
        if not self._flush_due and self._may_call():
            self._flush_due = True
            self._gathered, self._turns = len(self._waiting), 0
            asyncio.get_running_loop().call_soon(self._gather)

    def _gather(self) -> None:
        """Flush when a turn of the loop has brought nothing new, or after TURNS_MAX of them."""
        arrived, self._gathered = len(self._waiting) > self._gathered, len(self._waiting)
        self._turns += 1
        if arrived and self._turns < TURNS_MAX and self._gathered < self._bounds.batch_max:
            asyncio.get_running_loop().call_soon(self._gather)
        else:
            self._flush()

    def _flush(self) -> None:
        self._flush_due = False
        self._refuse_late()
        while self._waiting and self._may_call():
            size = min(len(self._waiting), self._bounds.batch_max)
            batch = [self._waiting.popleft() for _ in range(size)]
            self._in_flight += size
            call = asyncio.create_task(self._decide(batch))
            self._calls.add(call)
            call.add_done_callback(self._done)

    def _may_call(self) -> bool:
        """At once while nothing is in flight; beside a call only with as many as it carries."""
        if not self._calls:
            return True
        return len(self._calls) < CALLS_MAX and len(self._waiting) >= self._in_flight

    def _refuse_late(self) -> None:
        late = time.monotonic() + self._deadline_s * LATE_SHARE
        while self._waiting and self._waiting[0][3] < late:
            self._give_up([self._waiting.popleft()], Outcome.BACKEND_UNAVAILABLE)

    def _done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._flush()

    async def _decide(self, batch: list[_Waiting]) -> None:
        outcome = Outcome.BACKEND_UNAVAILABLE
        reply, results = None, []
        try:
            verdict, *rest = await self._ask(batch)
            if verdict == Verdict.DECIDED.value:
                reply = Reply(*rest[:6])
                results = _read(batch, reply, rest[6:])
            else:
                self._refused(Verdict(verdict), rest[2])
                outcome = Outcome.NOT_WARMED
        except StoreUnavailable:
            pass
        except StoreRefused as error:
            if self._is_new(str(error)):
                log.exception("script_refused", runbook="redis-refuses")
        except Exception as error:
            if self._is_new(repr(error)):
                log.exception("batch_failed", campaign=self._campaign.campaign_id)
        self._in_flight -= len(batch)
        if reply is None or not results:
            self._give_up(batch, outcome)
        else:
            self._tell(batch, reply, results)

    def _tell(self, batch: list[_Waiting], reply: Reply, results: list[int | Decision]) -> None:
        campaign = self._campaign
        self._said = ""
        if campaign.state is not None and reply.epoch == campaign.state.epoch:
            campaign.learn(reply.generation, reply.seq, reply.round, reply.left, reply.now_ms)
        outcomes: dict[str, int] = {}
        granted = 0
        for (user, device, request_id, _, waiter), result in zip(batch, results, strict=True):
            try:
                if isinstance(result, int):
                    granted += 1
                    waiter.granted(result, reply)
                else:
                    name = result.outcome.name
                    outcomes[name] = outcomes.get(name, 0) + 1
                    self._memory.learn(campaign, user, device, request_id, result, reply)
                    waiter.decided(result)
            except Exception:  # of one: the others have their answers still to come
                log.exception("answer_failed", campaign=campaign.campaign_id)
        outcomes[Outcome.GRANTED.name] = outcomes.get(Outcome.GRANTED.name, 0) + granted
        self._count(batch, outcomes)

    def _give_up(self, batch: list[_Waiting], outcome: Outcome) -> None:
        """The script was not asked, or said nothing that could be passed on."""
        for waiting in batch:
            waiting[4].decided(Decision(outcome))
        self._count(batch, {outcome.name: len(batch)})

    def _count(self, batch: list[_Waiting], outcomes: dict[str, int]) -> None:
        for name, count in outcomes.items():
            if count:
                labels = (self._campaign.campaign_id, name)
                self._metrics.add("flashgrab_grabs", labels, count)
        before_s = time.monotonic() + self._deadline_s
        self._metrics.observe_all(
            "flashgrab_grab_seconds", [before_s - waiting[3] for waiting in batch]
        )

    async def _ask(self, batch: list[_Waiting]) -> list[Any]:
        """Ask the script; once more where the reply was lost (the request ids make it a replay)
        or other rounds are current than this process thought. All inside the oldest deadline."""
        deadline = batch[0][3]
        resent = moved = False
        while True:
            await self._connected(deadline)
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms < self._bounds.deadline_ms * LATE_SHARE:
                raise StoreUnavailable("too late to ask")
            timeout_ms = left_ms if resent else left_ms // 2
            try:
                reply = await self._call(batch, timeout_ms)
            except StoreUnavailable:
                if resent:
                    raise
                resent = True
                self._metrics.add("flashgrab_resends")
                continue
            if reply[0] == Verdict.MOVED.value and not moved:
                moved = True
                continue
            return reply

    async def _connected(self, deadline: float) -> None:
        if self._wire.connected.is_set():
            return
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                await self._wire.connected.wait()
        except TimeoutError:
            raise StoreUnavailable("Redis is not connected") from None

    async def _call(self, batch: list[_Waiting], timeout_ms: int) -> list[Any]:
        campaign = self._campaign
        found = campaign.current(self._clock.now_ms())
        if campaign.state is None or found is None:
            return [Verdict.MISSING.value, 0, 0, 0, 0, 0, -1]
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
        args: list[str | bytes | int] = [SCHEMA, campaign.state.epoch, self._wire.run_id]
        args += [campaign.floor, round_.number, after_ms, campaign.ends_at]
        for waiting in batch:
            args += waiting[:3]
        started = time.perf_counter()
        reply: list[Any] = await self._wire.run(GRAB, touched, args, timeout_ms)
        self._metrics.observe("flashgrab_script_seconds", time.perf_counter() - started, ("grab",))
        self._metrics.observe("flashgrab_batch_size", len(batch))
        self._clock.observe(reply[4])
        return reply

    def _refused(self, verdict: Verdict, seq: int) -> None:
        name = self._campaign.campaign_id
        if verdict is Verdict.FLOOR and self._is_new(verdict.name):
            log.error(
                "redis_knows_less", campaign=name, seq=seq, floor=self._campaign.floor,
                runbook="redis-stale",
            )  # fmt: skip
        self._metrics.add("flashgrab_not_warmed", (name, verdict.name))

    def _is_new(self, problem: str) -> bool:
        """A problem is said once, not for each batch that it lasts."""
        was, self._said = self._said, problem
        return was != problem


def _read(batch: list[_Waiting], reply: Reply, results: list[Any]) -> list[int | Decision]:
    """New serials as they are, anything else in words. Raises where one makes no sense: nothing of
    such a reply may reach anybody."""
    return [
        result if type(result) is int and result > 0 else decision_of(result, reply, waiting[2])
        for waiting, result in zip(batch, results, strict=True)
    ]
