"""Bad connections by the thousand, and good traffic beside them. Only to this machine."""

import asyncio
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from flashgrab.passes import PassKeys, issue
from tests.gateway.serving import HOUR_MS, PASS_KEYS

ATTACKER = "127.0.0.66" if sys.platform == "linux" else "127.0.0.1"
"""An address of its own, where loopback has more than one."""
AT_ONCE = 100
DRIP_S = 0.5
LOOK_S = 0.05


@dataclass(frozen=True)
class Attack:
    """What one bad connection does: says `first`, then drips `drip` byte by byte, over and over,
    or pours `pour` as long as it is taken, up to `pour_bytes`."""

    name: str
    first: bytes = b""
    drip: bytes = b""
    pour: bytes = b""
    pour_bytes: int = 0


@dataclass
class Bad(asyncio.Protocol):
    """One connection of an attack."""

    attack: Attack
    heard: bytearray = field(default_factory=bytearray)
    sent: int = 0
    closed: bool = False
    _writable: bool = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self.attack.first:
            self.transport.write(self.attack.first)
        self._pour()

    def _pour(self) -> None:
        attack, there = self.attack, self.transport
        # one that is closing throws away what it is given, without a pause
        while self._writable and not there.is_closing() and self.sent < attack.pour_bytes:
            there.write(attack.pour)
            self.sent += len(attack.pour)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._pour()

    def drip(self) -> None:
        """The next byte."""
        drip = self.attack.drip
        if drip and not self.closed:
            at = self.sent % len(drip)
            self.transport.write(drip[at : at + 1])
            self.sent += 1

    def data_received(self, data: bytes) -> None:
        self.heard += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True


async def begin(port: int, attacks: Sequence[Attack]) -> list[Bad]:
    """A connection for each; one that is refused at once is closed already."""
    made: list[Bad] = []
    loop = asyncio.get_running_loop()

    async def one(attack: Attack) -> None:
        bad = Bad(attack)
        made.append(bad)
        try:
            await loop.create_connection(lambda: bad, "127.0.0.1", port, local_addr=(ATTACKER, 0))
        except OSError:
            bad.closed = True

    for start in range(0, len(attacks), AT_ONCE):
        await asyncio.gather(*map(one, attacks[start : start + AT_ONCE]))
    return made


async def until_closed(made: Sequence[Bad], within_s: float) -> list[Bad]:
    """Drip until all are closed or the time is over; those that are still open."""
    end = time.monotonic() + within_s
    due = 0.0
    while (there := [bad for bad in made if not bad.closed]) and (now := time.monotonic()) < end:
        if now >= due:
            due = now + DRIP_S
            for bad in there:
                bad.drip()
        await asyncio.sleep(LOOK_S)
    return there


def abort(made: Sequence[Bad]) -> None:
    for bad in made:
        if not bad.closed:
            bad.transport.abort()


class Good:
    """A buyer after the other on one connection, each with a coupon to grab."""

    def __init__(self, port: int, campaign_id: str, prefix: str, pause_s: float = 0.02) -> None:
        self._port = port
        self._campaign_id = campaign_id
        self._prefix = prefix
        self._pause_s = pause_s
        self._keys = PassKeys.parse(PASS_KEYS)
        self.statuses: list[int] = []
        self.seconds: list[float] = []

    async def run(self, stop: asyncio.Event) -> None:
        """Until told; a connection that is lost is an error."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            while not stop.is_set():
                writer.write(self._request(f"{self._prefix}{len(self.statuses)}"))
                since = time.perf_counter()
                head = await reader.readuntil(b"\r\n\r\n")
                self.seconds.append(time.perf_counter() - since)
                self.statuses.append(int(head[9:12]))
                await reader.readexactly(_length(head))
                await asyncio.sleep(self._pause_s)
        finally:
            writer.transport.abort()

    def _request(self, user: str) -> bytes:
        expires_ms = int(time.time() * 1000) + HOUR_MS
        token = issue(self._keys, self._campaign_id, user, "", expires_ms)
        path = f"/v1/campaigns/{self._campaign_id}/grabs"
        lines = (f"POST {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {token}",
                 "Idempotency-Key: k", "Content-Length: 0")  # fmt: skip
        return "\r\n".join((*lines, "", "")).encode()


def _length(head: bytes) -> int:
    return int(head.lower().partition(b"\r\ncontent-length: ")[2].partition(b"\r\n")[0])


def p99_ms(seconds: Sequence[float]) -> float:
    """The 99th percentile, in ms."""
    return sorted(seconds)[len(seconds) * 99 // 100] * 1000
