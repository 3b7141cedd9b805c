"""One connection of a test: pieces of bytes out, every byte that comes back, and how it ended."""

import asyncio
import re
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from tests.gateway.lane.sides import Pair, Seen, Side
from tests.gateway.lane.world import level

WITHIN_S = 4.0
"""Below the deadlines and the keep-alive time of a connection, 5 s each."""
QUIET_TURNS = 6
SILENT_TURNS, SILENT_S = 40, 0.02
"""Without a byte for so long, a request whose body is not whole is seen to wait for it."""
BUSY_TURNS = 400

_CHANGING = re.compile(
    rb'(\r\ndate: )[^\r]*|(\r\nretry-after: )\d+|("retry_after_ms":)\d+|("server_time":)"[^"]*"'
    rb"|(\nratelimit: [^\r]*;t=)\d+"
)
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


class Client(asyncio.Protocol):
    """Keeps what comes."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.closed = False
        self.sent = 0
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True

    def write(self, data: bytes) -> None:
        assert self.transport is not None
        if not self.closed and data:
            self.sent += len(data)
            self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    @property
    def port(self) -> int:
        assert self.transport is not None
        return int(self.transport.get_extra_info("sockname")[1])


@dataclass(frozen=True)
class Heard:
    """Everything that one connection said: `answers` without what may differ by nature."""

    answers: bytes
    closed: bool

    @property
    def statuses(self) -> list[int]:
        return [int(status) for status in STATUS.findall(self.answers)]


async def connect(side: Side, receive_bytes: int = 0) -> tuple[Client, Seen]:
    """A connection, and what the server sees of it. `receive_bytes`: of the kernel's buffer."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setblocking(False)
    if receive_bytes:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    await loop.sock_connect(sock, ("127.0.0.1", side.port))
    _, client = await loop.create_connection(Client, sock=sock)
    end = time.monotonic() + WITHIN_S
    while client.port not in side.made:
        assert time.monotonic() < end, "the server does not accept"
        await asyncio.sleep(0)
    return client, side.made.pop(client.port)


async def converse(side: Side, *rounds: Sequence[bytes]) -> list[Heard]:
    """Send each round's pieces, one read of the server each; after each round wait for all
    answers, and note what has come since the round before."""
    client, seen = await connect(side)
    heard = []
    try:
        for pieces in rounds:
            before = len(client.data)
            for piece in pieces:
                client.write(piece)
                await _turns(lambda: _has_read(client, seen), 1)
            await _settled(side, client, seen)
            heard.append(Heard(normal(bytes(client.data[before:])), client.closed))
    finally:
        client.abort()
        await _turns(lambda: seen.lost and side.is_idle, 1)
    return heard


async def same(pair: Pair, *rounds: Sequence[bytes]) -> list[Heard]:
    """Both sides hear the same; both worlds change the same. What they answered.

    On a busy machine a request of one side may pass its deadline, or the end of an answer may be
    lost with its connection: then both are asked again.
    """
    twin = await converse(pair.twin, *rounds)
    lane = await converse(pair.lane, *rounds)
    if _late(twin) != _late(lane) or _is_cut(twin, lane):
        level(pair.twin.world, pair.lane.world)
        pair.twin.forget()
        pair.lane.forget()
        twin = await converse(pair.twin, *rounds)
        lane = await converse(pair.lane, *rounds)
    done, expected = pair.lane.world.facts(), pair.twin.world.facts()
    if done != expected:
        level(pair.twin.world, pair.lane.world)
        for side in (pair.twin, pair.lane):
            side.forget()
    assert lane == twin, f"lane: {lane}\ntwin: {twin}"
    assert done == expected, f"lane: {done}\ntwin: {expected}"
    return lane


def _late(heard: Sequence[Heard]) -> int:
    return sum(one.answers.count(b"BACKEND_UNAVAILABLE") for one in heard)


def _is_cut(twin: Sequence[Heard], lane: Sequence[Heard]) -> bool:
    """Whether one side heard only the beginning: who closes with bytes unread resets, and a reset
    throws away what the client has not read yet."""
    return any(
        a.closed and b.closed and len(a.answers) != len(b.answers)
        and (a.answers.startswith(b.answers) or b.answers.startswith(a.answers))
        for a, b in zip(twin, lane, strict=True)
    )  # fmt: skip


def normal(data: bytes) -> bytes:
    """Without dates, jitter and the server's time."""
    return _CHANGING.sub(lambda match: b"".join(part for part in match.groups() if part), data)


def _has_read(client: Client, seen: Seen) -> bool:
    return seen.lost or seen.received >= client.sent or not seen.is_reading


async def _settled(side: Side, client: Client, seen: Seen) -> None:
    """Wait until nothing more can come: all is answered, or what is not whole waits for more."""
    end = time.monotonic() + WITHIN_S
    quiet = silent = turn = came = 0
    since = time.monotonic()
    while quiet < QUIET_TURNS and (silent < SILENT_TURNS or time.monotonic() - since < SILENT_S):
        if seen.lost or client.closed:
            waits, idle = False, seen.lost and client.closed
        else:
            all_here = seen.received >= client.sent and len(client.data) == seen.written
            waits = all_here and seen.receiving and seen.is_answered()
            idle = all_here and side.is_idle
        quiet = quiet + 1 if idle else 0
        if not waits or len(client.data) != came:
            silent, since = 0, time.monotonic()
        silent, came, turn = silent + 1, len(client.data), turn + 1
        assert time.monotonic() < end, "no end of this conversation"
        await asyncio.sleep(0 if turn < BUSY_TURNS else 0.001)


async def _turns(met: Callable[[], bool], quiet: int) -> None:
    """Wait until a condition has stood for some turns of the loop."""
    end = time.monotonic() + WITHIN_S
    turn = stood = 0
    while stood < quiet:
        stood = stood + 1 if met() else 0
        turn += 1
        assert time.monotonic() < end, "no end of this conversation"
        await asyncio.sleep(0 if turn < BUSY_TURNS else 0.001)
