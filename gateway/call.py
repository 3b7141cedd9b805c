"""One batch of grabs, and the script call that decides it."""

import asyncio
import time
from collections.abc import Callable
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
from gateway.decisions import Waiter
from gateway.redis_clock import RedisClock

LATE_SHARE = 0.1
"""A request with less than this share of its time left is answered unsent: a call cut short by
its deadline takes down the connection, and with it the calls of all other campaigns."""

DECIDED = Verdict.DECIDED.value
ALARMS = {
    Verdict.MISSING: Alarm.REDIS_DATA_LOST,
    Verdict.FLOOR: Alarm.REDIS_STALE,
    Verdict.SCHEMA: Alarm.SCHEMA_UNKNOWN,
}

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Bounds:
    """batch_max and queue_max in requests, deadline_ms from arrival to answer."""

    batch_max: int
    queue_max: int
    deadline_ms: int


@dataclass(slots=True)
class Batch:
    """Grabs in the order of their arrival: who waits, since when (monotonic s), and what the
    script is told of each: user, device, request id."""

    waiters: list[Waiter] = field(default_factory=list)
    since: list[float] = field(default_factory=list)
    words: list[bytes] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.waiters)

    def first(self, size: int) -> "Batch":
        """Its first grabs, which are in it no more."""
        taken = Batch(self.waiters[:size], self.since[:size], self.words[: 3 * size])
        del self.waiters[:size], self.since[:size], self.words[: 3 * size]
        return taken


Ended = Callable[[Batch, list[Any] | None, Outcome, float], None]
"""Told the batch, what the script said where it decided, else the outcome for all; and how many
seconds the call took, 0 where there was more than one."""


class Asker:
    """Asks the script about the batches of one campaign; each is told of by `ended`, once."""

    def __init__(
        self,
        campaign: Campaign,
        wire: Calls,
        clock: RedisClock,
        bounds: Bounds,
        metrics: Metrics,
        ended: Ended,
    ) -> None:
        self._campaign = campaign
        self._wire = wire
        self._clock = clock
        self._bounds = bounds
        self._deadline_s = bounds.deadline_ms / 1000
        self._least_ms = bounds.deadline_ms * LATE_SHARE
        self._metrics = metrics
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._asking: set[asyncio.Task[None]] = set()
        self._said = ""

    def ask(self, batch: Batch) -> None:
        """The first call of a batch. Its reply comes without a task: mostly nothing else does."""
        started, call = time.perf_counter(), None
        with suppress(Exception):  # _until_said() meets it again
            question = self._question(batch)
            if question is not None and self._wire.connected.is_set():
                call = self._wire.call(GRAB, *question, self._bounds.deadline_ms // 2)
        if call is None:
            self._go_on(batch, None)
        else:
            call.add_done_callback(partial(self._heard, batch, started))

    def _heard(self, batch: Batch, started: float, call: "asyncio.Future[list[Any]]") -> None:
        try:
            said = call.result()
            self._note(batch, started, said)
            decided = said[0] == DECIDED
        except Exception:  # _until_said() meets it again
            decided = False
        if decided:
            took_s = time.perf_counter() - started
            self._ended(batch, said, Outcome.BACKEND_UNAVAILABLE, took_s)
        else:
            self._go_on(batch, call)

    def _go_on(self, batch: Batch, first: "asyncio.Future[list[Any]] | None") -> None:
        """A batch whose first call was not made, or did not decide, takes longer."""
        asking = self._loop.create_task(self._decide(batch, first))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)

    async def _decide(self, batch: Batch, first: "asyncio.Future[list[Any]] | None") -> None:
        outcome, said = Outcome.BACKEND_UNAVAILABLE, None
        try:
            said = await self._until_said(batch, first)
            if said[0] != DECIDED:
                self._refused(Verdict(said[0]), said[3])
                outcome, said = Outcome.NOT_WARMED, None
        except StoreUnavailable as error:
            self.alarm(Alarm.REDIS_SLOW, str(error))
        except StoreRefused as error:
            self.alarm(Alarm.REDIS_REFUSES, str(error))
        except Exception as error:
            said = None
            self.failed(error)
        self._ended(batch, said, outcome, 0.0)

    async def _until_said(
        self, batch: Batch, first: "asyncio.Future[list[Any]] | None"
    ) -> list[Any]:
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
                self.alarm(Alarm.REDIS_SLOW, str(error))
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

    async def _call(self, batch: Batch, deadline: float, resent: bool) -> list[Any]:
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

    def _question(self, batch: Batch) -> tuple[list[str], list[Any]] | None:
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

    def _note(self, batch: Batch, started: float, said: list[Any]) -> None:
        self._metrics.observe("flashgrab_script_seconds", time.perf_counter() - started, ("grab",))
        self._metrics.observe("flashgrab_batch_size", len(batch))
        self._clock.observe(said[4])

    # -- what went wrong ---------------------------------------------------------------------------

    def fine(self) -> None:
        """What was said of problems may be said anew."""
        self._said = ""

    def failed(self, error: Exception) -> None:
        if self._is_new(repr(error)):
            log.error("batch_failed", campaign=self._campaign.campaign_id, exc_info=error)

    def _refused(self, verdict: Verdict, seq: int) -> None:
        name = self._campaign.campaign_id
        if verdict in ALARMS and self._campaign.state is not None:
            reason = f"it has given {seq} seqs, {self._campaign.floor} were seen"
            self.alarm(ALARMS[verdict], reason, campaign=name)
        self._metrics.add("flashgrab_not_warmed", (name, verdict.name))

    def alarm(self, alarm: Alarm, reason: str = "", campaign: str = "") -> None:
        alarms = self._metrics.alarms
        alarms.begin(alarm, reason, campaign=campaign, by="grabs", hold_ms=HOLD_MS)

    def _is_new(self, problem: str) -> bool:
        """A problem is said once, not for each batch that it lasts."""
        was, self._said = self._said, problem
        return was != problem
