"""One script call for many grabs: what arrives in one turn of the loop goes to Redis together."""

import asyncio
import time
from collections import deque
from dataclasses import dataclass
from typing import Any, NamedTuple

import structlog

from flashgrab import keys
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.ids import OWN_REQUEST_PREFIX
from flashgrab.outcomes import BY_SCRIPT_CODE, Outcome, Verdict
from flashgrab.scripts import GRAB, SCHEMA
from flashgrab.telemetry import Metrics
from flashgrab.wire import Wire
from gateway.campaigns import Campaign
from gateway.redis_clock import RedisClock

CALLS_MAX = 2
"""Script calls of one campaign in flight at once; the next batch fills meanwhile."""
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


class Grant(NamedTuple):
    """One grant as the holders hash has it; `state` is g (granted) or r (returned)."""

    serial: int
    seq: int
    round: int
    state: str
    request_id: str


class Decision(NamedTuple):
    """What became of one grab. `grants`: the one granted or replayed, or all that limit him.

    `at_ms` is Redis' time when the script decided, 0 where it did not.
    """

    outcome: Outcome
    grants: tuple[Grant, ...] = ()
    at_ms: int = 0


class _Waiting(NamedTuple):
    user_id: str
    device_id: str
    request_id: str
    deadline: float
    answer: "asyncio.Future[Decision]"


def read_grants(entry: str) -> tuple[Grant, ...]:
    """A holder's entry (lua/README.md) as grants."""
    return tuple(
        Grant(int(serial), int(seq), int(number), state, request_id)
        for serial, seq, number, state, request_id in (
            line.split(",") for line in entry.split(";") if line
        )
    )


class Batcher:
    """The batches of one campaign in this process."""

    def __init__(
        self, campaign: Campaign, wire: Wire, clock: RedisClock, bounds: Bounds, metrics: Metrics
    ) -> None:
        self._campaign = campaign
        self._wire = wire
        self._clock = clock
        self._bounds = bounds
        self._metrics = metrics
        self._waiting: deque[_Waiting] = deque()
        self._calls: set[asyncio.Task[None]] = set()
        self._in_flight = 0
        self._flush_due = False
        self._said = ""

    @property
    def requests(self) -> int:
        """Requests that wait or are in flight."""
        return len(self._waiting) + self._in_flight

    def submit(self, user_id: str, device_id: str, request_id: str) -> "asyncio.Future[Decision]":
        """Put a grab into the batch of this turn. The future never raises, and ends in time."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Decision] = loop.create_future()
        if self.requests >= self._bounds.queue_max:
            answer.set_result(Decision(Outcome.BUSY))
            return answer
        deadline = time.monotonic() + self._bounds.deadline_ms / 1000
        self._waiting.append(_Waiting(user_id, device_id, request_id, deadline, answer))
        if not self._flush_due and len(self._calls) < CALLS_MAX:
            self._flush_due = True
            loop.call_soon(self._flush)
        return answer

    def _flush(self) -> None:
        self._flush_due = False
        self._refuse_late()
        while self._waiting and len(self._calls) < CALLS_MAX:
            size = min(len(self._waiting), self._bounds.batch_max)
            batch = [self._waiting.popleft() for _ in range(size)]
            self._in_flight += size
            call = asyncio.create_task(self._decide(batch))
            self._calls.add(call)
            call.add_done_callback(self._done)

    def _refuse_late(self) -> None:
        late = time.monotonic() + self._bounds.deadline_ms / 1000 * LATE_SHARE
        while self._waiting and self._waiting[0].deadline < late:
            waiting = self._waiting.popleft()
            if not waiting.answer.done():
                waiting.answer.set_result(Decision(Outcome.BACKEND_UNAVAILABLE))

    def _done(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._flush()

    async def _decide(self, batch: list[_Waiting]) -> None:
        try:
            decisions = await self._ask(batch)
        except StoreUnavailable:
            decisions = [Decision(Outcome.BACKEND_UNAVAILABLE)] * len(batch)
        except StoreRefused as error:
            if self._is_new(str(error)):
                log.exception("script_refused", runbook="redis-refuses")
            decisions = [Decision(Outcome.BACKEND_UNAVAILABLE)] * len(batch)
        except Exception as error:
            if self._is_new(repr(error)):
                log.exception("batch_failed", campaign=self._campaign.campaign_id)
            decisions = [Decision(Outcome.BACKEND_UNAVAILABLE)] * len(batch)
        self._in_flight -= len(batch)
        for waiting, decision in zip(batch, decisions, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(decision)

    async def _ask(self, batch: list[_Waiting]) -> list[Decision]:
        """Ask the script; once more where the reply was lost (the request ids make it a replay)
        or other rounds are current than this process thought. All inside the oldest deadline."""
        deadline = batch[0].deadline
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
            return self._read(batch, reply)

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
        args: list[str | int] = [SCHEMA, campaign.state.epoch, self._wire.run_id, campaign.floor]
        args += [round_.number, after_ms, campaign.ends_at]
        for waiting in batch:
            args += waiting[:3]
        started = time.perf_counter()
        reply: list[Any] = await self._wire.run(GRAB, touched, args, timeout_ms)
        self._metrics.observe("flashgrab_script_seconds", time.perf_counter() - started, ("grab",))
        self._metrics.observe("flashgrab_batch_size", len(batch))
        self._clock.observe(reply[4])
        return reply

    def _read(self, batch: list[_Waiting], reply: list[Any]) -> list[Decision]:
        verdict, epoch, generation, seq, now_ms, number, left, *results = reply
        if verdict != Verdict.DECIDED.value:
            self._refused(Verdict(verdict), seq)
            return [Decision(Outcome.NOT_WARMED)] * len(batch)
        if self._campaign.state is not None and epoch == self._campaign.state.epoch:
            self._campaign.learn(generation, seq, number, left)
        decisions = [
            _decision(result, number, now_ms, waiting.request_id)
            for waiting, result in zip(batch, results, strict=True)
        ]
        self._said = ""
        return decisions

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


def _decision(result: int | bytes, number: int, now_ms: int, request_id: str) -> Decision:
    if isinstance(result, int):
        if result > 0:
            grant = Grant(result, 0, number, "g", request_id)
            return Decision(Outcome.GRANTED, (grant,), now_ms)
        return Decision(BY_SCRIPT_CODE[result], (), now_ms)
    text = result.decode()
    grants = read_grants(text[1:])
    if text[0] == "U":
        return Decision(Outcome.USER_LIMIT, grants, now_ms)
    # A request id of our own can only come back from our own resend: its sender asked once.
    ours = request_id.startswith(OWN_REQUEST_PREFIX)
    return Decision(Outcome.GRANTED if ours else Outcome.REPLAYED, grants, now_ms)
