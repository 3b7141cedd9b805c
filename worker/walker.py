"""The walker: of all workers the one that has the role advances watermarks, confirms runs, feeds
the dead-letter topic and audits. Two for a moment do no harm: every step is idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from flashgrab.alarms import Alarms
from flashgrab.broker import TopicLog
from flashgrab.errors import BrokerUnavailable, LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger.role import Role
from worker.confirm import CONFIRMER, Confirmation
from worker.dead import DeadLetters
from worker.live_audit import AUDITOR, LiveAudit
from worker.pause import Pause
from worker.signals import end_all
from worker.watermark import LOG, WALKER, Watermark

WALK_MS = 100
SURVEY_MS = 1000
CONFIRM_MS = 200
DEAD_MS = 1000
AUDIT_MS = 1000
ROLE_MS = 1000
END_MS = 3000
"""How long a step may take to end after a stop."""

Forget = Callable[[], None]
GONE = (LedgerUnavailable, StoreUnavailable, StoreRefused, BrokerUnavailable)

log = structlog.get_logger()


class Walker:
    """Runs the duties while this process has the role."""

    def __init__(
        self,
        role: Role,
        watermark: Watermark,
        confirmation: Confirmation,
        dead: DeadLetters,
        audit: LiveAudit,
        topic_log: TopicLog,
        alarms: Alarms,
        *,
        survey_ms: int = SURVEY_MS,
        audit_ms: int = AUDIT_MS,
    ) -> None:
        self._role = role
        self._watermark = watermark
        self._topic_log = topic_log
        self._alarms = alarms
        self._stopping = asyncio.Event()
        self._duties: list[tuple[str, Callable[[], Awaitable[object]], int, Forget]] = [
            ("survey", watermark.survey, survey_ms, watermark.forget_figures),
            ("confirmation", confirmation.step, CONFIRM_MS, _nothing),
            ("dead letters", dead.step, DEAD_MS, _nothing),
            ("audit", audit.step, audit_ms, audit.forget_figures),
        ]

    def stop(self) -> None:
        """End after the steps that are being taken."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped; PostgreSQL being away is waited for."""
        pause = Pause("walker", self._alarms)
        try:
            while not self._stopping.is_set():
                try:
                    elected = await self._role.take()
                    pause.over()
                    if elected:
                        log.info("this worker walks")
                        await self._walk_while_elected()
                    await self._rest(ROLE_MS)
                except LedgerUnavailable as error:
                    await pause.again(error)
        finally:
            await self._role.leave()
            await self._topic_log.stop()

    async def _walk_while_elected(self) -> None:
        """Raises LedgerUnavailable when the role may be lost; returns when it is, or at a stop."""
        over = asyncio.Event()
        tasks = [asyncio.create_task(self._walk(over), name="walk")]
        tasks += [
            asyncio.create_task(self._every(pause_ms, step, name, forget, over), name=name)
            for name, step, pause_ms, forget in self._duties
        ]
        try:
            while not self._stopping.is_set() and await self._role.take():
                resting = asyncio.create_task(self._rest(ROLE_MS))
                await asyncio.wait({*tasks, resting}, return_when=asyncio.FIRST_COMPLETED)
                if any(task.done() for task in tasks):
                    break  # by an exception, which is raised below
                await resting
        finally:
            over.set()
            await end_all(tasks, END_MS)
            for seen_by in (WALKER, LOG, CONFIRMER, AUDITOR):  # another one sees what is so
                self._alarms.leave(seen_by)
            for _, _, _, forget in self._duties:
                forget()
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _walk(self, over: asyncio.Event) -> None:
        """Often, and without a break while whole steps can be taken."""
        with Pause("walk", self._alarms) as pause:
            while not over.is_set():
                try:
                    more = await self._watermark.walk()
                    pause.over()
                except GONE as error:
                    await pause.again(error)
                    continue
                if not more:
                    await _wait(over, WALK_MS)

    async def _every(
        self,
        pause_ms: int,
        step: Callable[[], Awaitable[object]],
        name: str,
        forget: Forget,
        over: asyncio.Event,
    ) -> None:
        """`forget` what it shows while it can't look: nobody else takes it off."""
        with Pause(name, self._alarms) as pause:
            while not over.is_set():
                try:
                    await step()
                    pause.over()
                except GONE as error:
                    forget()
                    await pause.again(error)
                    continue
                await _wait(over, pause_ms)

    async def _rest(self, pause_ms: int) -> None:
        await _wait(self._stopping, pause_ms)


def _nothing() -> None:
    """It shows no figures."""


async def _wait(event: asyncio.Event, most_ms: int) -> None:
    """Until the event, at most so long."""
    try:
        async with asyncio.timeout(most_ms / 1000):
            await event.wait()
    except TimeoutError:
        return
