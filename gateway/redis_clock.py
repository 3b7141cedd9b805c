"""What time it is at Redis, as far as this process can tell without asking."""

from flashgrab.clock import Clock

SKEW_MS_MAX = 5000
"""Past this, one of the two clocks is wrong, and the gateway refuses (design.md)."""


class RedisClock:
    """Redis' time from the last reply that carried it, carried on by the monotonic clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset_ms: int | None = None

    def observe(self, now_ms: int) -> None:
        """A reply said that it is `now_ms` at Redis."""
        self._offset_ms = now_ms - self._clock.monotonic_ms()

    @property
    def known(self) -> bool:
        return self._offset_ms is not None

    def now_ms(self) -> int:
        """Redis' time in ms; this machine's own until Redis was heard once."""
        if self._offset_ms is None:
            return self._clock.now_ms()
        return self._clock.monotonic_ms() + self._offset_ms

    def skew_ms(self) -> int:
        """How far this machine's wall clock is ahead of Redis', in ms."""
        return self._clock.now_ms() - self.now_ms()

    @property
    def trusted(self) -> bool:
        """Whether wall clock and Redis agree well enough to grant and to check passes."""
        return self.trusts(self._clock.now_ms(), self.now_ms())

    def trusts(self, wall_ms: int, now_ms: int) -> bool:
        """The same for two readings at hand, of the wall clock and of Redis' time."""
        return -SKEW_MS_MAX <= wall_ms - now_ms <= SKEW_MS_MAX
