"""Two gateways of one world: the readable twin, and the lane that must answer as it does."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from flashgrab.clock import Clock, SystemClock
from gateway.hardened import Hardened
from gateway.lane import Lane
from tests.gateway.lane.world import World
from tests.gateway.serving import Served, serving
from tests.lua.server import Valkey

TWIN, LANE = Hardened, Lane
KINDS: tuple[type[Hardened], type[Hardened]] = (TWIN, LANE)


class Seen:
    """What a test sees of one connection from the server's side."""

    received = 0
    written = 0
    lost = False
    receiving: bool
    transport: asyncio.Transport
    is_answered: Callable[[], bool]

    @property
    def is_reading(self) -> bool:
        return self.transport.is_reading()


class Counting:
    """A transport that counts what is written. Before the network has it: on a busy machine head
    and body of one answer may arrive a while apart."""

    def __init__(self, transport: asyncio.Transport, seen: Seen) -> None:
        self._transport = transport
        self._seen = seen

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._seen.written += len(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def watched(kind: type[Hardened], made: dict[int, Seen]) -> type[Hardened]:
    """The class, counting the bytes that reach and leave it; `made` has its connections
    by peer port."""

    class Watched(Seen, kind):  # type: ignore[valid-type,misc]
        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(Counting(transport, self))
            made[transport.get_extra_info("peername")[1]] = self

        def data_received(self, data: bytes) -> None:
            self.received += len(data)
            super().data_received(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost = True
            super().connection_lost(exc)

    return Watched


@dataclass
class Side:
    """One gateway and its own world; `made` are its connections by the client's port."""

    served: Served
    world: World
    made: dict[int, Seen] = field(default_factory=dict)

    @property
    def port(self) -> int:
        return self.served.port

    def forget(self) -> None:
        """What its gateway has seen: after `level` Redis may know less, and would be refused."""
        for campaign in self.served.gateway.catalogue:
            campaign.floor = 0
            campaign._seen = (0, 0, 0)
            campaign.shut = None
        self.served.gateway.memory._known.clear()

    @property
    def inflight(self) -> float:
        return self.served.metrics.live["flashgrab_inflight"]()

    @property
    def waiting(self) -> int:
        """Requests in the batchers."""
        return sum(b.requests for b in self.served.gateway.batchers.values())

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was asked is still to be answered."""
        return not (self.inflight or self.waiting or self.served.server.server_state.tasks)


@dataclass(frozen=True)
class Pair:
    """The same requests go to both; the same answers must come back."""

    twin: Side
    lane: Side

    def __repr__(self) -> str:
        """Hypothesis prints it with each example, and of a dataclass would print all there is."""
        return "Pair()"


class ShiftedClock(SystemClock):
    """A machine's wall clock that a test can put wrong."""

    shift_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.shift_ms


@asynccontextmanager
async def one_side(
    kind: type[Hardened], redis: Valkey, start_ms: int, clock: Clock, **changes: Any
) -> AsyncIterator[Side]:
    """A gateway of this class on an emptied server with the world in it."""
    made: dict[int, Seen] = {}
    world = World(redis, start_ms)
    try:
        world.create()
        async with serving(redis.url, clock, watched(kind, made), **changes) as served:
            yield Side(served, world, made)
    finally:
        world.close()


@asynccontextmanager
async def pair(
    servers: tuple[Valkey, Valkey],
    clock: Clock | None = None,
    lane: type[Hardened] = LANE,
    **changes: Any,
) -> AsyncIterator[Pair]:
    """Both gateways, each on its own server, both worlds equal to the millisecond."""
    chosen = clock or SystemClock()
    start_ms = SystemClock().now_ms()
    kinds: tuple[type[Hardened], ...] = (TWIN, lane)
    async with AsyncExitStack() as stack:
        sides = [
            await stack.enter_async_context(one_side(kind, server, start_ms, chosen, **changes))
            for kind, server in zip(kinds, servers, strict=True)
        ]
        yield Pair(*sides)
