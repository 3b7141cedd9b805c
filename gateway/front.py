"""What stands before HTTP on a connection: the PROXY header of a load balancer, the TLS handshake.

Only where one of them is set; otherwise the lane is the connection's first protocol.
"""

import asyncio
from collections.abc import Callable
from typing import Any, cast

from uvicorn.protocols.utils import get_remote_addr

from gateway.doors import Doors
from gateway.hardened import Hardened
from gateway.proxy_header import NotProxied, Source, read_header
from gateway.tls import Certificate

FRONT_S = 4.0
"""For header and handshake."""
GOODBYE_S = 1.0
"""For the other side's part of a TLS connection's end."""


def fronted(
    inner: type[Hardened], certificate: Certificate | None, *, header: bool
) -> Callable[..., "Front"]:
    """What uvicorn is to make for a connection. `header`: listed proxies speak PROXY."""

    def make(**given: Any) -> Front:
        return Front(lambda: inner(**given), certificate, header, given)

    return make


class Front(asyncio.Protocol):
    """Holds a place until it hands the connection over."""

    def __init__(
        self,
        make: Callable[[], Hardened],
        certificate: Certificate | None,
        header: bool,
        given: dict[str, Any],
    ) -> None:
        self._make = make
        self._certificate = certificate
        self._header = header
        self._state = given["server_state"]
        self._doors: Doors = given["app_state"]["gateway"].doors
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + FRONT_S
        self._place: str | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bytes = b""
        self._source: Source | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        client = get_remote_addr(self._transport)
        host = client[0] if client else ""
        self._place = self._doors.enter(host)
        if self._place is None:
            self._transport.abort()
            return
        self._state.connections.add(self)
        self._header = self._header and self._doors.proxies.trusts(host)
        if self._header or self._certificate:
            self._timer = self._loop.call_at(self._until, self._give_up)
        else:
            self._begin(self._transport, b"")

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        if self._header:
            try:
                found = read_header(self._bytes)
            except NotProxied:
                self._give_up()
                return
            if found is None:
                return
            self._header = False
            self._source, self._bytes = found
        if self._certificate is None:
            self._begin(self._transport, self._bytes)
        elif self._bytes:
            self._encrypt(self._certificate)

    def _give_up(self) -> None:
        self._doors.count("proxy" if self._header else "tls")
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._leave()

    def shutdown(self) -> None:
        """The process stops; nothing was asked yet."""
        self._transport.abort()

    def _leave(self) -> None:
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._place is not None:
            self._doors.leave(self._place)
            self._place = None

    # -- handing over ----------------------------------------------------------------------------

    def _encrypt(self, certificate: Certificate) -> None:
        """The handshake's first bytes are here: only now, since uvloop begins to read after
        connection_made, and start_tls knows nothing of what came before it."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.pause_reading()
        task = self._loop.create_task(self._handshake(certificate))
        self._state.tasks.add(task)
        task.add_done_callback(self._state.tasks.discard)
        # After start_tls has begun, and what it put off until the next turn.
        self._loop.call_soon(self._loop.call_soon, self._feed, self._bytes)
        self._bytes = b""

    def _feed(self, rest: bytes) -> None:
        protocol = cast(asyncio.BufferedProtocol, self._transport.get_protocol())
        while rest and not self._transport.is_closing():
            buffer = cast(memoryview, protocol.get_buffer(len(rest)))
            size = min(len(rest), len(buffer))
            buffer[:size] = rest[:size]
            protocol.buffer_updated(size)
            rest = rest[size:]

    async def _handshake(self, certificate: Certificate) -> None:
        early = _Early()
        try:
            transport = await self._loop.start_tls(
                self._transport,
                early,
                certificate.context,
                server_side=True,
                ssl_handshake_timeout=max(0.1, self._until - self._loop.time()),
                ssl_shutdown_timeout=GOODBYE_S,
            )
        except OSError:  # also what is no TLS, and what took too long
            self._doors.count("tls")
            self._transport.abort()
            return
        finally:
            self._leave()
        if transport is not None and not early.ended and not transport.is_closing():
            self._begin(transport, bytes(early.data))

    def _begin(self, transport: asyncio.Transport, data: bytes) -> None:
        self._leave()
        inner = self._make()
        inner.source = self._source
        transport.set_protocol(inner)
        inner.connection_made(transport)
        if data and not transport.is_closing():
            cast(asyncio.Protocol, transport.get_protocol()).data_received(data)


class _Early(asyncio.Protocol):
    """Keeps what comes with the end of the handshake, until somebody listens. The transport stops
    reading by itself at its own bound, and the next turn of the loop ends this."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended = False

    def data_received(self, data: bytes) -> None:
        self.data += data

    def eof_received(self) -> None:
        self.ended = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
