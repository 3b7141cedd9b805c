"""How many connections there may be, in all and from one address, and what the others are told."""

import asyncio
from collections.abc import Sequence

from flashgrab.alarms import HOLD_MS, Alarm
from flashgrab.outcomes import Outcome
from flashgrab.telemetry import Metrics
from gateway.proxies import Proxies, block_of
from gateway.replies import problem, to_bytes

TOLD_MAX = 100
"""So many of the refused are told at a time; the rest are closed at once: under attack an answer
costs more than it is worth."""
TOLD_S = 1.0

Headers = Sequence[tuple[bytes, bytes]]


class Doors:
    """One a process. A listed proxy counts in all only: its connections are many buyers'."""

    def __init__(self, most: int, per_address: int, proxies: Proxies, metrics: Metrics) -> None:
        self._most = most
        self._per_address = per_address
        self._by_block: dict[str, int] = {}
        self._metrics = metrics
        self.proxies = proxies
        self.inside = 0
        self.told = 0

    def enter(self, host: str) -> str | None:
        """The place that a connection from there takes, to be given to leave(); None: none is
        left, which was counted."""
        if self.inside >= self._most:
            reason = f"{self._most} connections"
            self._metrics.alarms.begin(Alarm.CONNECTIONS_FULL, reason, hold_ms=HOLD_MS)
            self.count("total")
            return None
        place = ""
        if self._per_address and host and not self.proxies.trusts(host):
            place = block_of(host)
            there = self._by_block.get(place, 0)
            if there >= self._per_address:
                self.count("address")
                return None
            self._by_block[place] = there + 1
        self.inside += 1
        return place

    def leave(self, place: str) -> None:
        """A connection is gone."""
        self.inside -= 1
        if place:
            left = self._by_block[place] - 1
            if left:
                self._by_block[place] = left
            else:
                del self._by_block[place]

    def count(self, reason: str) -> None:
        """A connection that was refused."""
        self._metrics.add("flashgrab_connections_refused", (reason,))

    def turn_away(self, transport: asyncio.Transport, headers: Headers) -> None:
        """Tell it so, or close it at once."""
        if self.told >= TOLD_MAX:
            transport.set_protocol(asyncio.Protocol())
            transport.abort()
        else:
            transport.set_protocol(_TurnedAway(self, transport, headers))


class _TurnedAway(asyncio.Protocol):
    """Answers the first bytes: who is answered before it has asked may never read the answer."""

    def __init__(self, doors: Doors, transport: asyncio.Transport, headers: Headers) -> None:
        doors.told += 1
        self._doors = doors
        self._transport = transport
        self._headers = headers
        self._timer = asyncio.get_running_loop().call_later(TOLD_S, transport.abort)

    def data_received(self, data: bytes) -> None:
        if not self._transport.is_closing():
            answer = problem(Outcome.BUSY, detail="Too many connections; try again.")
            self._transport.write(to_bytes(answer, self._headers, close=True))
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._doors.told -= 1
