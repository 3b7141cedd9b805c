"""The walker: of all workers the one that has the role advances watermarks, confirms runs, feeds
the dead-letter topic and audits. Two for a moment do no harm: every step is idempotent.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from flashgrab.broker import TopicLog
from flashgrab.errors import BrokerUnavailable, LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger.role import Role
from worker.confirm import Confirmation
from worker.dead import DeadLetters
from worker.live_audit import LiveAudit
from worker.pause import Pause
from worker.watermark import Watermark

WALK_MS = 100
SURVEY_MS = 1000
CONFIRM_MS = 200
DEAD_MS = 1000
AUDIT_MS = 1000
ROLE_MS = 1000

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
        wrote: asyncio.Event,
        *,
        survey_ms: int = SURVEY_MS,
        audit_ms: int = AUDIT_MS,
    ) -> None:
        self._role = role
        self._watermark = watermark
        self._topic_log = topic_log
        self._wrote = wrote
        self._duties: list[tuple[str, Callable[[], Awaitable[object]], int]] = [
            ("survey", watermark.survey, survey_ms),
            ("confirmation", confirmation.step, CONFIRM_MS),
            ("dead letters", dead.step, DEAD_MS),
            ("audit", audit.step, audit_ms),
        ]

    async def run(self) -> None:
        """Until cancelled."""
        pause = Pause("walker")
        try:
            while True:
                try:
                    if await self._role.take():
                        log.info("this worker walks")
                        await self._walk_while_elected()
                    pause.over()
                    await asyncio.sleep(ROLE_MS / 1000)
                except LedgerUnavailable as error:
                    await pause.again(error)
        finally:
            await self._role.leave()
            await self._topic_log.stop()

    async def _walk_while_elected(self) -> None:
        """Raises LedgerUnavailable when the role may be lost; returns when it is."""
        tasks = [asyncio.create_task(self._walk(), name="walk")]
        tasks += [
            asyncio.create_task(_every(pause_ms, step, name), name=name)
            for name, step, pause_ms in self._duties
        ]
        try:
            while await self._role.take():
                done, _ = await asyncio.wait(
                    tasks, timeout=ROLE_MS / 1000, return_when=asyncio.FIRST_COMPLETED
                )
                for task in done:
                    task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _walk(self) -> None:
        """At once after a transaction of this process, else often; without a break while it can."""
        pause = Pause("walk")
        while True:
            self._wrote.clear()
            try:
                moved = await self._watermark.walk()
                pause.over()
            except GONE as error:
                await pause.again(error)
                continue
            if not moved:
                try:
                    async with asyncio.timeout(WALK_MS / 1000):
                        await self._wrote.wait()
                except TimeoutError:
                    continue


async def _every(pause_ms: int, step: Callable[[], Awaitable[object]], name: str) -> None:
    pause = Pause(name)
    while True:
        try:
            await step()
            pause.over()
        except GONE as error:
            await pause.again(error)
            continue
        await asyncio.sleep(pause_ms / 1000)
