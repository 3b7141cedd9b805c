"""What all connections of a process share on the express lane: the time, known frames, and the
answers of a turn."""

import asyncio
from contextlib import suppress

from flashgrab.clock import Clock
from gateway.cors import Cors
from gateway.plain import Frame, NotPlain, frame_of, origin_of
from gateway.redis_clock import RedisClock

FRAMES_MAX = 4096
"""Heads that look different, or of different campaigns, of at most 4 KB; past it all are examined
anew."""


class Desk:
    """One a process."""

    def __init__(self, cors: Cors, wall: Clock, clock: RedisClock) -> None:
        self._loop = asyncio.get_running_loop()
        self._answers: list[tuple[asyncio.Transport, bytes]] = []
        self._cors = cors
        self._wall = wall
        self._clock = clock
        self.turn = -1.0
        self.wall_ms = 0
        self.now_ms = 0
        self.trusted = False
        self.frames: dict[tuple[bytes, bytes], Frame | None] = {}

    # -- the time ------------------------------------------------------------------------------

    def look(self, turn: float) -> None:
        """Read the clocks, where the loop's own time is another than at the last look.

        uvloop's stands still within a turn and counts milliseconds; `now_ms` is Redis' time.
        """
        self.turn = turn
        self.wall_ms, self.now_ms = self._wall.now_ms(), self._clock.now_ms()
        self.trusted = self._clock.trusts(self.wall_ms, self.now_ms)

    # -- answers -----------------------------------------------------------------------------------

    def answer(self, transport: asyncio.Transport, data: bytes) -> None:
        """Write at the end of this turn, before anything more is read.

        All of a turn together: the kernel's way of sending is long, and taking turns with it
        pushes this code out of the processor's caches (a third of a refusal's CPU).
        """
        if not self._answers:
            self._loop.call_soon(self._write)
        self._answers.append((transport, data))

    def _write(self) -> None:
        answers, self._answers = self._answers, []
        for transport, data in answers:
            if not transport.is_closing():
                transport.write(data)

    # -- frames ----------------------------------------------------------------------------------

    def frame(self, name: bytes, shape: bytes, *, keyed: bool, remember: bool) -> Frame | None:
        """The frame of a head that was cut; None: it is not plain.

        To be remembered is only what came with a pass of this campaign: nobody else can push out
        what is known.
        """
        try:
            return self.frames[name, shape]
        except KeyError:
            pass
        found = None
        with suppress(NotPlain):
            found = frame_of(name, shape, self._cors.lines(origin_of(shape, keyed=keyed)))
        if remember and b"\r\n\r\n" not in shape[:-4]:  # two requests in one are never seen again
            if len(self.frames) >= FRAMES_MAX:
                self.frames.clear()
            self.frames[name, shape] = found
        return found
