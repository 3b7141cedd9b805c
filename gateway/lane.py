"""The express lane: a plain grab is read, decided and answered in the bytes of the connection.

No parser, task, future or response object stands between the socket and the batch: the connection
itself waits in the batch and writes its answer. What is not plain goes to the ordinary parser and
route untouched, and gets the same answer there (tests/gateway/lane/).
"""

import asyncio
import secrets
from time import monotonic
from typing import Any

from starlette.responses import Response

from flashgrab.ids import OWN_REQUEST_PREFIX, is_campaign_id
from flashgrab.limits import Policies, networks
from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign
from gateway.decisions import BLOCKED, Decision, Reply, new_grant
from gateway.hardened import Hardened
from gateway.plain import NO_FRAME, cut, is_key, is_token
from gateway.ratelimit import NEAR, REFUSED, Verdict, noted, refusal
from gateway.replies import grab_reply, to_bytes

LATER_BYTES_MAX = 64 * 1024
"""What a client may send ahead of its answer before we stop reading."""


NO_GRAB: "_Grab" = (b"", b"", b"")
NOT_WARMED = Decision(Outcome.NOT_WARMED)
_Grab = tuple[bytes, bytes, bytes]
"""User, device, request id."""


class Lane(Hardened):
    """One connection that grabs: one grab in flight at most; what comes meanwhile waits."""

    __slots__ = (
        "_active", "_campaign", "_closing", "_desk", "_frame", "_gateway", "_grab", "_later",
        "_loop_time", "_more", "_open", "_ready", "_since", "_verify",
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = self.app_state["gateway"]
        self._desk = self._gateway.desk
        self._ready = self._gateway.ready
        self._verify = self._gateway.pass_keys.verify
        self._loop_time = self.loop.time
        self._open = False  # nothing before it is unanswered, and the client reads
        self._campaign: Campaign | None = None  # of the grab in flight
        self._frame = NO_FRAME  # of the last grab's head
        self._grab = NO_GRAB  # while its limits are looked at
        self._since = 0.0  # since when they are (monotonic s)
        self._more = b""  # header lines that its answer gets besides
        self._active = False  # since the keep-alive timer was looked at
        self._later = b""
        self._closing = False

    # -- bytes in --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._campaign is not None:
            self._later += data
            if len(self._later) > LATER_BYTES_MAX:
                self.flow.pause_reading()
        elif not (self._open or self._opens()) or not (self._alike(data) or self._take(data)):
            self._open = False
            super().data_received(data)

    def _opens(self) -> bool:
        """Whether the next bytes begin a request, and may be answered as soon as they are here."""
        self._open = self.is_answered() and not (
            self.receiving or self.is_broken or self.flow.write_paused
        )
        return self._open

    def _alike(self, data: bytes) -> bool:
        """Whether this was a grab like the last one, but for pass and key, in a campaign that has
        a say; then it is answered, or waits in its batch."""
        prefix, middle, suffix, pass_first, start, stop, name, _ = self._frame
        if not data.startswith(prefix) or not data.endswith(suffix):
            return False
        token, key = data[start:stop], None
        if middle:
            token, _, key = token.partition(middle)
            if not pass_first:
                token, key = key, token
            if not is_key(key):
                return False
        desk = self._desk
        turn = self._loop_time()
        if turn != desk.turn:
            desk.look(turn)
        who = self._verify(token, desk.wall_ms)
        campaign = self._gateway.catalogue.by_name.get(name)
        if who is None or who[1] != name or campaign is None or campaign.missing:
            return False
        if not desk.trusted:
            return False
        self._decide(campaign, who[2], who[3], key)
        return True

    def _take(self, data: bytes) -> bool:
        """The same for any plain grab."""
        found = cut(data)
        if found is None:
            return False
        name, token, key, shape = found
        gateway, desk = self._gateway, self._desk
        turn = self._loop_time()
        if turn != desk.turn:
            desk.look(turn)
        if not desk.trusted or (key is not None and not is_key(key)):
            return False
        who = self._verify(token, desk.wall_ms)
        belongs = who is not None and who[1] == name
        frame = desk.frame(name, shape, keyed=key is not None, remember=belongs)
        if frame is None:
            return False
        self._frame, self._more = frame, frame.more
        campaign = gateway.catalogue.by_name.get(name)
        if who is None or campaign is None or who[1] != name or campaign.missing:
            return self._refuse_here(gateway.catalogue.named(name), name, token, who, key)
        self._decide(campaign, who[2], who[3], key)
        return True

    def _decide(self, campaign: Campaign, user: bytes, device: bytes, key: bytes | None) -> None:
        """Answer from memory, or put this connection into the batch."""
        gateway, desk = self._gateway, self._desk
        self._active = True
        if key is None:
            key = (OWN_REQUEST_PREFIX + secrets.token_hex(8)).encode()
        decision: Decision | None
        if gateway.blocked is not None and gateway.blocked.stops(user, device, desk.now_ms):
            decision = BLOCKED
        elif campaign.limits is not None:
            self._count(campaign, campaign.limits, (user, device, key))
            return
        else:
            decision = gateway.memory.decide(
                campaign, gateway.wire.run_id, user, device, key, desk.now_ms
            )
        if decision is not None:
            campaign.tallies[decision.outcome].count += 1
            headers = self.server_state.default_headers
            answer = self._ready.answer(campaign, decision, self._more, headers)
            desk.answer(self.transport, answer)
            return
        self._campaign = campaign
        batcher = gateway.batchers.get(campaign.campaign_id) or gateway.batcher(campaign)
        batcher.enter(user, device, key, self)

    # -- rate limits -----------------------------------------------------------------------------

    def _count(self, campaign: Campaign, limits: Policies, grab: _Grab) -> None:
        """Let the limits look at it first, all at once or in a while."""
        self._campaign, self._grab, self._since = campaign, grab, monotonic()
        found = networks(self.address)
        verdict = self._gateway.limiter.enter(limits, grab[0], grab[1], found, self)
        if verdict is not None:
            self.limited(verdict)

    def limited(self, verdict: Verdict) -> None:
        """The limits have been looked at (gateway/limiter.py: Waiter)."""
        gateway, desk, campaign = self._gateway, self._desk, self._campaign
        assert campaign is not None
        if verdict.left == REFUSED:
            gateway.count_limited(campaign, verdict)
            self._answer(refusal(verdict))
            return
        turn = self._loop_time()
        if turn != desk.turn:
            desk.look(turn)
        user, device, key = self._grab
        waiter = self if verdict.left > NEAR else _Near(self, campaign, verdict)
        decision: Decision | None = NOT_WARMED
        if not campaign.missing:
            run_id = gateway.wire.run_id
            decision = gateway.memory.decide(campaign, run_id, user, device, key, desk.now_ms)
        if decision is not None:
            gateway.count_local(campaign, decision.outcome)
            waiter.decided(decision)
        else:
            gateway.batcher(campaign).enter_late(user, device, key, waiter, self._since)

    def near(self, campaign: Campaign, decision: Decision, verdict: Verdict) -> None:
        """The answer of a grab that has nearly used up a limit."""
        response = grab_reply(campaign, decision, self._gateway.redis_clock.now_ms())
        self._answer(noted(response, verdict))

    def _answer(self, response: Response) -> None:
        """One that no other is like; then what came meanwhile."""
        self._campaign = None
        if self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        data = to_bytes(response, headers, more=self._more, close=self._closing)
        if self._closing or self._later:
            self.transport.write(data)
        else:
            self._desk.answer(self.transport, data)
        if self._closing:
            self.transport.close()
        elif self._later:
            self._go_on()

    def _refuse_here(
        self,
        campaign: Campaign | None,
        name: bytes,
        token: bytes,
        who: list[bytes] | None,
        key: bytes | None,
    ) -> bool:
        """What is refused before a campaign has a say; False where the parser would object."""
        self._active = True
        if (who is None or campaign is None) and not _has_form(name, token):
            return False
        if who is None:
            outcome = Outcome.PASS_INVALID
        elif who[1] != name:
            outcome = Outcome.PASS_OTHER_CAMPAIGN
        elif self._gateway.blocked is not None and self._gateway.blocked.stops(
            who[2], who[3], self._desk.now_ms
        ):
            outcome = Outcome.BLOCKED
        else:
            outcome = Outcome.CAMPAIGN_NOT_FOUND if campaign is None else Outcome.NOT_WARMED
            if campaign is not None and campaign.limits is not None:
                self._decide(campaign, who[2], who[3], key)
                return True
        self._gateway.count_local(campaign, outcome)
        self._write(campaign, Decision(outcome))
        return True

    # -- answers (gateway/decisions.py: Waiter) --------------------------------------------------

    def granted(self, serial: int, reply: Reply) -> None:
        """The script has just granted this serial."""
        campaign, self._campaign = self._campaign, None
        assert campaign is not None
        if self._closing:
            self._write(campaign, new_grant(serial, reply))
        elif not self.transport.is_closing():
            headers = self.server_state.default_headers
            self.transport.write(self._ready.granted(campaign, serial, reply, self._more, headers))
            if self._later:
                self._go_on()

    def decided(self, decision: Decision) -> None:
        """A replay, a refusal, or no answer in time."""
        campaign, self._campaign = self._campaign, None
        self._write(campaign, decision)
        if self._later:
            self._go_on()

    def _write(self, campaign: Campaign | None, decision: Decision) -> None:
        if self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        if not self._closing:
            answer = self._ready.answer(campaign, decision, self._more, headers)
            if self._later:  # what comes next may be answered at once
                self.transport.write(answer)
            else:
                self._desk.answer(self.transport, answer)
            return
        self.transport.write(self._ready.last(campaign, decision, self._more, headers))
        self.transport.close()

    def _go_on(self) -> None:
        """With what came while the grab was in flight."""
        if not self.transport.is_closing():
            data, self._later = self._later, b""
            self.flow.resume_reading()
            self.data_received(data)

    # -- the connection --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """While the loop is late, those who are here go first."""
        super().connection_made(transport)
        if self._gateway.pace.late:
            self.flow.pause_reading()
            self._gateway.pace.hold(self)

    def let_in(self) -> None:
        """It was held, and is read from now."""
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def pause_writing(self) -> None:
        """The client does not read: the ordinary way waits until it does."""
        self._open = False
        super().pause_writing()

    def shutdown(self) -> None:
        """The process stops: a grab in flight is answered first."""
        if self._campaign is not None:
            self._closing = True
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn arms it after its own answers only; an answer of ours puts it off once more."""
        if self._active or self._campaign is not None:
            self._active = False
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        else:
            super().timeout_keep_alive_handler()


class _Near:
    """Waits in a batch for a connection whose answer has fields besides (gateway/ratelimit.py)."""

    __slots__ = ("_campaign", "_lane", "_verdict")

    def __init__(self, lane: Lane, campaign: Campaign, verdict: Verdict) -> None:
        self._lane = lane
        self._campaign = campaign
        self._verdict = verdict

    def granted(self, serial: int, reply: Reply) -> None:
        self.decided(new_grant(serial, reply))

    def decided(self, decision: Decision) -> None:
        self._lane.near(self._campaign, decision, self._verdict)


def _has_form(name: bytes, token: bytes) -> bool:
    """Whether the parser and the route would let it come as far as the pass check."""
    return bool(is_token(token) and is_campaign_id(name.decode("latin-1")))
