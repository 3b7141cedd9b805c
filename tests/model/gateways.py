"""Two gateways on one Redis in a thread with a loop of its own, asked over HTTP by a test."""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from typing import NamedTuple

from tests.gateway.crowd import Got, Sent, read_answer, request_bytes
from tests.gateway.serving import Served, serving, until

UP_S = 30
ANSWER_S = 30
IDLE_MS = 3000
"""A gateway closes a connection that was idle for 5 s."""
DEADLINE_MS = 10_000
"""Above the default: a busy machine is not to be told from a wrong answer by its 503."""


class Asked(NamedTuple):
    """One request to one of the gateways, between two readings of the clock (ms)."""

    gateway: int
    sent: Sent
    from_ms: int
    to_ms: int
    got: Got


class _Kept(NamedTuple):
    """A connection that answered before."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used_ms: int


class Gateways:
    """Asked from the test's thread; what they know is looked at, too, but only read."""

    def __init__(self, loop: asyncio.AbstractEventLoop, served: Sequence[Served]) -> None:
        self._loop = loop
        self.served = served
        self._free: list[list[_Kept]] = [[] for _ in served]

    def ask(self, requests: Sequence[tuple[int, Sent]]) -> list[Asked]:
        """All at once, each on a connection of its own."""
        asking = asyncio.run_coroutine_threadsafe(self._ask(requests), self._loop)
        return asking.result(ANSWER_S)

    async def _ask(self, requests: Sequence[tuple[int, Sent]]) -> list[Asked]:
        return list(await asyncio.gather(*(self._one(n, sent) for n, sent in requests)))

    async def _one(self, gateway: int, sent: Sent) -> Asked:
        free = self._free[gateway]
        from_ms = now_ms()
        while free and from_ms - free[-1].used_ms > IDLE_MS:
            await _end(free.pop().writer)
        if free:
            reader, writer, _ = free.pop()
        else:
            port = self.served[gateway].port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            from_ms = now_ms()
        writer.write(request_bytes(sent))
        got = await read_answer(reader)
        to_ms = now_ms()
        free.append(_Kept(reader, writer, to_ms))
        return Asked(gateway, sent, from_ms, to_ms, got)

    async def close(self) -> None:
        for kept in (kept for free in self._free for kept in free):
            await _end(kept.writer)


async def _end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


def now_ms() -> int:
    """Redis runs on this machine, so this is its clock, too."""
    return time.time_ns() // 1_000_000


@contextmanager
def two_gateways(url: str) -> Iterator[Gateways]:
    """Until the block ends."""
    started: list[Gateways] = []
    stop: list[asyncio.Event] = []

    async def main() -> None:
        stop.append(asyncio.Event())
        async with AsyncExitStack() as stack:
            contexts = [serving(url, request_deadline_ms=DEADLINE_MS) for _ in range(2)]
            served = [await stack.enter_async_context(context) for context in contexts]
            started.append(Gateways(asyncio.get_running_loop(), served))
            await stop[0].wait()
            await started[0].close()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    try:
        asyncio.run(until("both serve", lambda: started or not thread.is_alive(), UP_S))
        assert started, "a gateway did not start"
        yield started[0]
    finally:
        if started:
            started[0]._loop.call_soon_threadsafe(stop[0].set)
        thread.join(UP_S)
        assert not thread.is_alive()
