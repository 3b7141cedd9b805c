"""What all connections of a process share on the express lane: the time, and known shapes."""

from typing import Literal

from flashgrab.clock import Clock
from gateway.cors import Cors
from gateway.plain import NotPlain, origin_of
from gateway.redis_clock import RedisClock

SHAPES_MAX = 1024
"""Heads that look different, of at most 4 KB; past it all are examined anew."""


class Desk:
    """One a process."""

    def __init__(self, cors: Cors, wall: Clock, clock: RedisClock) -> None:
        self._cors = cors
        self._wall = wall
        self._clock = clock
        self.turn = -1.0
        self.wall_ms = 0
        self.now_ms = 0
        self.trusted = False
        self.shapes: dict[bytes, bytes | Literal[False]] = {}

    # -- the time ------------------------------------------------------------------------------

    def look(self, turn: float) -> None:
        """Read the clocks, where the loop's own time is another than at the last look.

        uvloop's stands still within a turn and counts milliseconds; `now_ms` is Redis' time.
        """
        self.turn = turn
        self.wall_ms, self.now_ms = self._wall.now_ms(), self._clock.now_ms()
        self.trusted = self._clock.trusts(self.wall_ms, self.now_ms)

    # -- shapes ----------------------------------------------------------------------------------

    def lines_of(self, shape: bytes, *, keyed: bool, remember: bool) -> bytes | Literal[False]:
        """The header lines that an answer to this shape gets besides; False: it is not plain.

        Only what came with a valid pass is remembered: nobody else can push out what is known.
        """
        known = self.shapes.get(shape)
        if known is not None:
            return known
        lines: bytes | Literal[False]
        try:
            lines = self._cors.lines(origin_of(shape, keyed=keyed))
        except NotPlain:
            lines = False
        if remember and b"\r\n\r\n" not in shape[:-4]:  # two requests in one are never seen again
            if len(self.shapes) >= SHAPES_MAX:
                self.shapes.clear()
            self.shapes[shape] = lines
        return lines
