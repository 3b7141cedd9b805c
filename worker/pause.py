"""Waiting for a service that is away: growing pauses with jitter, and an alarm meanwhile."""

import asyncio
import random
from types import TracebackType

from flashgrab.alarms import Alarms

PAUSE_MS_MIN = 50
PAUSE_MS_MAX = 1000


class Pause:
    """The waits of one loop. Call `again` on a failure, `over` once it goes well.

    As a context it is over at the end: a loop that has ended waits for nothing. Without `alarms`
    it is another loop that says so.
    """

    def __init__(self, doing: str, alarms: Alarms | None, most_ms: int = PAUSE_MS_MAX) -> None:
        self._doing = doing
        self._alarms = alarms
        self._most_ms = most_ms
        self._next_ms = PAUSE_MS_MIN

    async def again(self, error: Exception) -> None:
        """Raise the alarm, and wait a little longer than the last time."""
        if self._alarms is not None:
            self._alarms.failed(error, self._doing)
        pause_ms, self._next_ms = self._next_ms, min(self._most_ms, 2 * self._next_ms)
        await asyncio.sleep(pause_ms * random.uniform(0.75, 1.25) / 1000)

    def over(self) -> None:
        """It goes well again."""
        if self._alarms is not None and self._next_ms != PAUSE_MS_MIN:
            self._alarms.leave(self._doing)
        self._next_ms = PAUSE_MS_MIN

    def __enter__(self) -> "Pause":
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.over()
