"""uvicorn's HTTP protocol with the bounds of a public server; what breaks one is answered as a
problem, in its turn, and the connection closed.

uvicorn itself takes a head of any size, a missing Host, and a request that trickles in for ever.
"""

import asyncio
from collections import deque
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import get_remote_addr

from flashgrab.outcomes import Outcome
from gateway.doors import Doors
from gateway.proxies import parsed
from gateway.proxy_header import Source
from gateway.replies import problem, to_bytes

NO_REQUEST = "What came is no HTTP/1.1 request with one Host."


class _Broken(Exception):
    """Raised inside a callback of the parser, to stop it; what is wrong was noted before."""


class Hardened(HttpToolsProtocol):
    """One connection. A message is what the parser is in: a head, then perhaps a body."""

    # With more than 30 names in its dictionary each connection would have a table of its own.
    __slots__ = (
        "_body_bytes", "_broken", "_deadline", "_doors", "_fields", "_head_bytes", "_hosts",
        "_in_head", "_messages", "_place", "_running", "_wire_bytes",
        "receiving", "source",
    )  # fmt: skip

    REQUEST_S = 5.0
    """From the first byte of a request to its last."""
    SILENT_S = 4.0
    """From the connection to its first byte. Who has asked once may wait for the opening."""
    HEAD_BYTES_MAX = 16 * 1024
    HEADERS_MAX = 64
    URL_BYTES_MAX = 8192
    BODY_BYTES_MAX = 4096
    WIRE_BYTES_MAX = 64 * 1024
    """A body as it comes, with the sizes and extensions of its chunks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.receiving = False
        self._in_head = False
        self._messages = 0  # begun or ended in the bytes at hand
        self._head_bytes = 0
        self._fields = 0
        self._hosts = 0
        self._body_bytes = 0
        self._wire_bytes = 0  # of the body, in the bytes behind those that began it
        self._deadline: asyncio.TimerHandle | None = None
        self._broken: Outcome | None = None
        self._running: RequestResponseCycle | None = None
        self._doors: Doors = self.app_state["gateway"].doors
        self._place: str | None = None
        self.source: Source | None = None  # where a PROXY header named one (gateway/front.py)

    # -- the connection --------------------------------------------------------------------------

    @property
    def address(self) -> str:
        """Whose request this is: of the buyer, or of a proxy that is not listed."""
        host = self.client[0] if self.client else ""
        return parsed(host) or host

    # -- bytes in ------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        client = self.source or get_remote_addr(transport)
        self._place = self._doors.enter(client[0] if client else "")
        if self._place is None:
            self._doors.turn_away(transport, self.server_state.default_headers)
            return
        super().connection_made(transport)
        self.client = client
        self.timeout_keep_alive_task = self.loop.call_later(
            min(self.SILENT_S, self.timeout_keep_alive), self.timeout_keep_alive_handler
        )

    def data_received(self, data: bytes) -> None:
        if self._broken is not None:
            return
        self._messages = 0
        super().data_received(data)
        if not self.receiving and not self._messages and self.is_answered():
            # Blank lines: the first bytes of a request, of which the parser says nothing.
            self.receiving = self._in_head = True
            self._head_bytes = 0
        if not self.receiving or self.transport.is_closing():
            return
        if self._in_head and self._messages <= 1:
            self._head_bytes += len(data)
            if self._head_bytes > self.HEAD_BYTES_MAX:
                self.refuse(Outcome.HEAD_TOO_LARGE)
        elif not self._in_head and not self._messages:
            self._wire_bytes += len(data)
            if self._wire_bytes > self.WIRE_BYTES_MAX:
                self.refuse(Outcome.REQUEST_TOO_LARGE)
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.REQUEST_S, self._late)

    def _late(self) -> None:
        """A client is not late while it is we who do not read."""
        if self.flow.read_paused:
            self._deadline = self.loop.call_later(self.REQUEST_S, self._late)
        else:
            self.refuse(Outcome.REQUEST_TIMEOUT)

    def connection_lost(self, exc: Exception | None) -> None:
        self._message_over()
        if self._place is not None:
            self._doors.leave(self._place)
            self._place = None
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def _message_over(self) -> None:
        self.receiving = False
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    # -- what the parser says --------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.receiving = self._in_head = True
        self._messages += 1
        self._head_bytes = self._fields = self._hosts = self._body_bytes = self._wire_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        if len(self.url) > self.URL_BYTES_MAX:
            self._stop(Outcome.URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        # Blanks behind a value are no part of it (RFC 9112 §5); llhttp leaves them there.
        super().on_header(name, value.rstrip(b" \t"))
        self._fields += len(name) + len(value) + 4
        if len(self.headers) > self.HEADERS_MAX or self._fields > self.HEAD_BYTES_MAX:
            self._stop(Outcome.HEAD_TOO_LARGE)
        if len(name) == 4 and name.lower() == b"host":
            self._hosts += 1
        elif len(name) == 14 and name.lower() == b"content-length" and self._is_long(value):
            self._stop(Outcome.REQUEST_TOO_LARGE)

    def _is_long(self, length: bytes) -> bool:
        return length.isdigit() and (len(length) > 18 or int(length) > self.BODY_BYTES_MAX)

    def on_headers_complete(self) -> None:
        self._in_head = False
        if self._hosts > 1 or (self._hosts == 0 and self.parser.get_http_version() != "1.0"):
            self._stop(Outcome.INVALID_REQUEST)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        if self._body_bytes > self.BODY_BYTES_MAX:
            self._stop(Outcome.REQUEST_TOO_LARGE)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._message_over()
        self._messages += 1
        super().on_message_complete()

    # -- refusing --------------------------------------------------------------------------------

    def _stop(self, outcome: Outcome) -> None:
        self._broken = outcome
        raise _Broken

    def send_400_response(self, msg: str) -> None:
        """The parser gave up, or one of the above made it."""
        outcome = self._broken
        self._broken = None
        self.refuse(Outcome.INVALID_REQUEST if outcome is None else outcome)

    def refuse(self, outcome: Outcome) -> None:
        """Answer in place of the request that is being received, after those before it."""
        if self._broken is not None or self.transport.is_closing():
            return
        self._broken = outcome
        self._message_over()
        self.pipeline = deque(entry for entry in self.pipeline if not entry[0].more_body)
        if self.is_answered():
            self._say()
        else:
            self.flow.pause_reading()

    @property
    def is_broken(self) -> bool:
        """Whether a bound was broken: nothing more is read."""
        return self._broken is not None

    def is_answered(self) -> bool:
        """Whether every whole request so far has its answer."""
        running = self._running
        return not self.pipeline and (
            running is None or running.response_complete or running.more_body
        )

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.receiving and self.is_answered():
            self._forget()
        if self._broken is not None and self.is_answered() and not self.transport.is_closing():
            self._say()

    def _forget(self) -> None:
        """What was asked and answered: 3 KB that would stay as long as the client does."""
        self._running = self.cycle = self.scope = None  # type: ignore[assignment]
        self.headers, self.url = [], b""

    def _say(self) -> None:
        assert self._broken is not None
        detail = {"detail": NO_REQUEST} if self._broken is Outcome.INVALID_REQUEST else {}
        response = problem(self._broken, **detail)
        self.transport.write(to_bytes(response, self.server_state.default_headers, close=True))
        self.transport.close()
