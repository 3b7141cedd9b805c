"""A TCP proxy between gateway and Redis that loses replies, or holds commands up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

CHUNK_BYTES = 1 << 16


class _Ended(Exception):
    """A connection is over: both ways end."""


class Proxy:
    """Passes bytes on. Armed, it breaks the next reply to an EVALSHA; `reached` counts those.

    "swallow": the reply never comes, the connection stays. "reset": it is closed hard instead.
    "hold": it comes after `release`.
    """

    def __init__(self, redis_port: int) -> None:
        self._redis_port = redis_port
        self._armed: Literal["", "swallow", "reset", "hold"] = ""
        self._stop_new_at = b""
        self._released = asyncio.Event()
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

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        asked, stop_at = asyncio.Event(), self._stop_new_at
        try:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._redis_port)
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
            writer.write(data)
            await writer.drain()
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
            writer.write(data)
            await writer.drain()
        raise _Ended


@asynccontextmanager
async def proxied(redis_port: int) -> AsyncIterator[Proxy]:
    """A proxy in front of a Redis, until the block ends."""
    proxy = Proxy(redis_port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy.stop()
        await server.wait_closed()
