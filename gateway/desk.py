"""What all connections of a process share on the express lane: known shapes and ready answers."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from starlette.responses import Response

from flashgrab.clock import Clock
from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign
from gateway.cors import Cors
from gateway.decisions import Decision, Reply
from gateway.plain import NotPlain, origin_of
from gateway.redis_clock import RedisClock
from gateway.replies import JSON, grab_reply, problem, to_bytes

SHAPES_MAX = 1024
"""Heads that look different, of at most 4 KB; past it all are examined anew."""
READY_MAX = 4096
"""Answers made beforehand: by campaign, round or outcome, and origin."""

SAME = frozenset(
    (
        Outcome.PASS_INVALID,
        Outcome.PASS_OTHER_CAMPAIGN,
        Outcome.CAMPAIGN_NOT_FOUND,
        Outcome.ENDED,
        Outcome.OFFLINE,
        Outcome.DEVICE_LIMIT,
    )
)
"""Refusals without anything that changes from one to the next."""

_Headers = Sequence[tuple[bytes, bytes]]


class Desk:
    """One a process. `headers` are uvicorn's own (the date), which change once a second."""

    def __init__(self, cors: Cors, wall: Clock, clock: RedisClock) -> None:
        self._cors = cors
        self._wall = wall
        self._clock = clock
        self.is_fresh = False
        self.wall_ms = 0
        self.now_ms = 0
        self.trusted = False
        self.shapes: dict[bytes, bytes | Literal[False]] = {}
        self._headers: _Headers = ()
        self._granted: dict[tuple[bytes, int, bytes], tuple[bytes, int]] = {}
        self._refusals: dict[tuple[bytes, Outcome, bytes], bytes] = {}

    # -- the time ------------------------------------------------------------------------------

    def look(self) -> None:
        """Read the clocks, once a turn of the loop; `now_ms` is Redis' time."""
        self.wall_ms, self.now_ms = self._wall.now_ms(), self._clock.now_ms()
        self.trusted = self._clock.trusts(self.wall_ms, self.now_ms)
        self.is_fresh = True
        asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        self.is_fresh = False

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

    # -- answers ---------------------------------------------------------------------------------

    def granted(
        self, campaign: Campaign, serial: int, reply: Reply, more: bytes, headers: _Headers
    ) -> bytes:
        """The 201 of a new grant."""
        if headers is not self._headers:
            self._turn(headers)
        key = (campaign.name, reply.round, more)
        found = self._granted.get(key)
        if found is None:
            found = self._granted[key] = self._form(campaign, reply, more)
        form, size = found
        digits = b"%d" % serial
        return form % (digits, size + 2 * len(digits), digits, digits)

    def answer(
        self, campaign: Campaign | None, decision: Decision, more: bytes, headers: _Headers
    ) -> bytes:
        """The answer to any decision but a new grant; some are always the same."""
        outcome = decision.outcome
        if headers is not self._headers:
            self._turn(headers)
        key = (b"" if campaign is None else campaign.name, outcome, more)
        ready = self._refusals.get(key)
        if ready is not None:
            return ready
        if outcome in SAME or (outcome is Outcome.SOLD_OUT and _is_last(campaign)):
            if len(self._refusals) >= READY_MAX:
                self._refusals.clear()
            ready = self._refusals[key] = to_bytes(problem(outcome), headers, more=more)
            return ready
        return to_bytes(self._response(campaign, decision), headers, more=more)

    def last(
        self, campaign: Campaign | None, decision: Decision, more: bytes, headers: _Headers
    ) -> bytes:
        """An answer after which the connection is closed."""
        return to_bytes(self._response(campaign, decision), headers, more=more, close=True)

    def _response(self, campaign: Campaign | None, decision: Decision) -> Response:
        if campaign is None:
            return problem(decision.outcome)
        return grab_reply(campaign, decision, self._clock.now_ms())

    def _form(self, campaign: Campaign, reply: Reply, more: bytes) -> tuple[bytes, int]:
        """A 201 with gaps for serial and length, and the length without the serial."""
        name = campaign.campaign_id
        body = (
            f'{{"grab_id":"{name}-%b","campaign_id":"{name}","serial":%b,'
            f'"round":{reply.round},"state":"GRANTED"}}'
        )
        lines = b"".join(b"%b: %b\r\n" % pair for pair in self._headers)
        form = (
            b"HTTP/1.1 201 Created\r\n%blocation: /v1/grabs/%b-%%b\r\ncontent-length: %%d\r\n"
            b"content-type: %b\r\n%b\r\n%b"
        )
        filled = form % (
            lines.replace(b"%", b"%%"),
            campaign.name,
            JSON.encode(),
            more.replace(b"%", b"%%"),
            body.encode(),
        )
        return filled, len(body) - len("%b%b")

    def _turn(self, headers: _Headers) -> None:
        self._headers = headers
        self._granted.clear()
        self._refusals.clear()


def _is_last(campaign: Campaign | None) -> bool:
    """Whether no round can follow, so that SOLD_OUT names none."""
    return campaign is not None and campaign.state is not None and len(campaign.state.rounds) == 1
