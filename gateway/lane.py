"""The express lane: a plain grab is read, decided and answered in the bytes of the connection.

No parser, task, future or response object stands between the socket and the batch: the connection
itself waits in the batch and writes its answer. What is not plain goes to the ordinary parser and
route untouched, and gets the same answer there (tests/gateway/lane/).
"""

import secrets
import time
from typing import Any

from flashgrab.ids import OWN_REQUEST_PREFIX, is_campaign_id
from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Reply, new_grant
from gateway.hardened import Hardened
from gateway.plain import GRABS, PLAIN_BYTES_MAX, cut, is_key, is_token

LATER_BYTES_MAX = 64 * 1024
"""What a client may send ahead of its answer before we stop reading."""


class Lane(Hardened):
    """One connection that grabs: one grab in flight at most; what comes meanwhile waits."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._gateway = self.app_state["gateway"]
        self._desk = self._gateway.desk
        self._campaign: Campaign | None = None  # of the grab in flight
        self._more = b""  # header lines that its answer gets besides
        self._began = 0.0
        self._later = b""
        self._closing = False

    # -- bytes in --------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._campaign is not None:
            self._later += data
            if len(self._later) > LATER_BYTES_MAX:
                self.flow.pause_reading()
        elif (
            data[-4:] != b"\r\n\r\n"
            or data[:19] != GRABS
            or len(data) > PLAIN_BYTES_MAX
            or self.receiving
            or self.is_broken
            or not self.is_answered()
            or not self._take(data)
        ):
            super().data_received(data)

    def _take(self, data: bytes) -> bool:
        """Whether this was a plain grab; then it is answered, or waits in its batch."""
        found = cut(data)
        if found is None or self.transport.is_closing():
            return False
        name, token, key, shape = found
        gateway = self._gateway
        wall_ms, now_ms = gateway.clock.now_ms(), gateway.redis_clock.now_ms()
        if not gateway.redis_clock.trusts(wall_ms, now_ms) or not (key is None or is_key(key)):
            return False
        who = gateway.pass_keys.verify(token, wall_ms)
        more = self._desk.lines_of(shape, keyed=key is not None, remember=who is not None)
        if more is False:
            return False
        campaign = gateway.catalogue.named(name)
        if (who is None or campaign is None) and not _is_junk_of_form(name, token):
            return False
        self._more = more
        self._began = time.monotonic()
        if who is None:
            self._refuse_here(campaign, Outcome.PASS_INVALID)
        elif who[0] != name:
            self._refuse_here(campaign, Outcome.PASS_OTHER_CAMPAIGN)
        elif campaign is None:
            self._refuse_here(campaign, Outcome.CAMPAIGN_NOT_FOUND)
        elif campaign.missing:
            self._refuse_here(campaign, Outcome.NOT_WARMED)
        else:
            own = key or (OWN_REQUEST_PREFIX + secrets.token_hex(8)).encode()
            self._enter(campaign, who[1], who[2], own)
        return True

    def _refuse_here(self, campaign: Campaign | None, outcome: Outcome) -> None:
        self._gateway.metrics.add("flashgrab_refused_locally", (outcome.name,))
        self._write(campaign, Decision(outcome))

    def _enter(self, campaign: Campaign, user: bytes, device: bytes, request_id: bytes) -> None:
        gateway = self._gateway
        decision = gateway.decide(campaign, (user, device), request_id)
        if decision is not None:
            gateway.metrics.add("flashgrab_refused_locally", (decision.outcome.name,))
            self._write(campaign, decision)
            return
        gateway.metrics.add("flashgrab_inflight")
        self._campaign = campaign
        gateway.batcher(campaign).enter(user, device, request_id, self)

    # -- answers (gateway/decisions.py: Waiter) --------------------------------------------------

    def granted(self, serial: int, reply: Reply) -> None:
        """The script has just granted this serial."""
        campaign = self._leave()
        if self._closing:
            self._write(campaign, new_grant(serial, reply))
            return
        self._count(campaign, Outcome.GRANTED)
        if not self.transport.is_closing():
            headers = self.server_state.default_headers
            self.transport.write(self._desk.granted(campaign, serial, reply, self._more, headers))
        self._go_on()

    def decided(self, decision: Decision) -> None:
        """A replay, a refusal, or no answer in time."""
        self._write(self._leave(), decision)
        self._go_on()

    def _leave(self) -> Campaign:
        campaign, self._campaign = self._campaign, None
        assert campaign is not None
        self._gateway.metrics.add("flashgrab_inflight", amount=-1)
        return campaign

    def _write(self, campaign: Campaign | None, decision: Decision) -> None:
        self._count(campaign, decision.outcome)
        if self.transport.is_closing():
            return
        headers = self.server_state.default_headers
        if not self._closing:
            self.transport.write(self._desk.answer(campaign, decision, self._more, headers))
            return
        self.transport.write(self._desk.last(campaign, decision, self._more, headers))
        self.transport.close()

    def _count(self, campaign: Campaign | None, outcome: Outcome) -> None:
        known = "unknown" if campaign is None else campaign.campaign_id
        metrics = self._gateway.metrics
        metrics.add("flashgrab_grabs", (known, outcome.name))
        metrics.observe("flashgrab_grab_seconds", time.monotonic() - self._began)

    def _go_on(self) -> None:
        """With what came while the grab was in flight."""
        if self._later and not self.transport.is_closing():
            data, self._later = self._later, b""
            self.flow.resume_reading()
            self.data_received(data)

    # -- the connection --------------------------------------------------------------------------

    def shutdown(self) -> None:
        """The process stops: a grab in flight is answered first."""
        if self._campaign is not None:
            self._closing = True
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """uvicorn arms it after its own answers only; ours are younger, perhaps."""
        idle_s = time.monotonic() - self._began
        if self._campaign is None and idle_s >= self.timeout_keep_alive:
            super().timeout_keep_alive_handler()
        else:
            self.timeout_keep_alive_task = self.loop.call_later(
                max(1.0, self.timeout_keep_alive - idle_s), self.timeout_keep_alive_handler
            )


def _is_junk_of_form(name: bytes, token: bytes) -> bool:
    """Whether the parser and the route would let it come as far as the pass check."""
    return bool(is_token(token) and is_campaign_id(name.decode("latin-1")))
