"""Waiting for a service that is away: growing pauses with jitter, and one log line, not many."""

import asyncio
import random

import structlog

PAUSE_MS_MIN = 50
PAUSE_MS_MAX = 1000

log = structlog.get_logger()


class Pause:
    """The waits of one loop. Call `again` on a failure, `over` once it goes well."""

    def __init__(self, doing: str, most_ms: int = PAUSE_MS_MAX) -> None:
        self._doing = doing
        self._most_ms = most_ms
        self._next_ms = PAUSE_MS_MIN
        self._said = ""

    async def again(self, error: Exception) -> None:
        """Say the reason where it is a new one, and wait a little longer than the last time."""
        reason = str(error)
        if type(error).__name__ != self._said:
            self._said = type(error).__name__
            log.warning("waiting", doing=self._doing, reason=reason)
        pause_ms, self._next_ms = self._next_ms, min(self._most_ms, 2 * self._next_ms)
        await asyncio.sleep(pause_ms * random.uniform(0.75, 1.25) / 1000)

    def over(self) -> None:
        """It goes well again."""
        if self._said:
            log.info("going on", doing=self._doing)
        self._said = ""
        self._next_ms = PAUSE_MS_MIN
