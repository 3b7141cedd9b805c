"""A TCP proxy between two parts: delays, drops replies, stalls one direction, resets."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

CHUNK_BYTES = 1 << 16

Way = Literal["requests", "replies"]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens to all that passes. `lose` and `reset` are the shares of replies that never
    come (the connection is silent from there on) and in whose place the connection is closed."""

    delay_ms: int = 0
    lose: float = 0.0
    reset: float = 0.0
    stall: Way | Literal[""] = ""


CALM = Trouble()


class _Ended(Exception):
    """A connection is over: both ways end."""


class Proxy:
    """Passes bytes on to a port of this machine, which may change (`lead_to`).

    `trouble` is what happens to all connections. Armed, it breaks the next reply to an EVALSHA:
    "swallow": it never comes, the connection stays. "reset": it is closed hard instead. "hold": it
    comes after `release`. `reached` counts everything that was done to bytes or connections.
    """

    def __init__(self, to_port: int, chance: random.Random | None = None) -> None:
        self._to_port = to_port
        self._chance = chance or random.Random()
        self._armed: Literal["", "swallow", "reset", "hold"] = ""
        self._stop_new_at = b""
        self._released = asyncio.Event()
        self._trouble = CALM
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self.reached = 0
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def arm(self, how: Literal["swallow", "reset"]) -> None:
        """Break the next reply to a script call."""
        self._armed = how

    def hold(self) -> None:
        """Hold the next reply to a script call back until it is released."""
        self._released.clear()
        self._armed = "hold"

    def stop_new_at(self, word: bytes) -> None:
        """Connections made from here on stop at the first command with this word, until released;
        `reached` counts them."""
        self._released.clear()
        self._stop_new_at = word

    def release(self) -> None:
        self._stop_new_at = b""
        self._released.set()

    @property
    def trouble(self) -> Trouble:
        return self._trouble

    @trouble.setter
    def trouble(self, trouble: Trouble) -> None:
        """What stalled goes on; what was lost stays so."""
        self._trouble = trouble
        self._changed.set()
        self._changed = asyncio.Event()

    def lead_to(self, port: int) -> None:
        """From now on to another server; connections to the one before end."""
        self._to_port = port
        for task in self._tasks:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        asked, stop_at = asyncio.Event(), self._stop_new_at
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._to_port)
            try:
                async with asyncio.TaskGroup() as ways:
                    ways.create_task(self._requests(reader, up_writer, asked, stop_at))
                    ways.create_task(self._replies(up_reader, writer, asked))
            finally:
                up_writer.transport.abort()
        except* (_Ended, OSError):
            pass
        finally:
            writer.transport.abort()
            self._tasks.discard(task)

    async def stop(self) -> None:
        """End all connections."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        asked: asyncio.Event,
        stop_at: bytes,
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if stop_at and stop_at in data:
                self.reached += 1
                await self._released.wait()
            if b"EVALSHA" in data:
                asked.set()
            if self._trouble is not CALM:
                await self._suffer("requests")
            await _pass_on(writer, data)
        raise _Ended

    async def _replies(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: asyncio.Event
    ) -> None:
        while data := await reader.read(CHUNK_BYTES):
            if asked.is_set() and self._armed:
                how, self._armed = self._armed, ""
                self.reached += 1
                if how == "reset":
                    raise _Ended
                if how == "swallow":
                    await asyncio.Event().wait()  # silent from here on, as behind a dead link
                await self._released.wait()
            asked.clear()
            if self._trouble is not CALM:
                await self._suffer("replies")
            await _pass_on(writer, data)
        raise _Ended

    async def _suffer(self, way: Way) -> None:
        """What the trouble of this moment does to a piece that passes."""
        trouble = self._trouble
        if trouble.delay_ms:
            self.reached += 1
            await asyncio.sleep(trouble.delay_ms / 1000)
        if way == "replies" and trouble.lose + trouble.reset > 0:
            drawn = self._chance.random()
            if drawn < trouble.lose + trouble.reset:
                self.reached += 1
                if drawn < trouble.reset:
                    raise _Ended
                await asyncio.Event().wait()
        while self._trouble.stall == way:
            self.reached += 1
            await self._changed.wait()


async def _pass_on(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():  # uvloop's transports raise where asyncio's only forget
        raise _Ended
    writer.write(data)
    await writer.drain()


@asynccontextmanager
async def proxied(to_port: int, chance: random.Random | None = None) -> AsyncIterator[Proxy]:
    """A proxy in front of a server of this machine, until the block ends."""
    proxy = Proxy(to_port, chance)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
