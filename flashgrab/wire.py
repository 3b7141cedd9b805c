"""The grab path's own connection to Redis: hiredis on a bare asyncio protocol.

redis-py costs about 80 µs of CPU a call, which at 10 to 20 grabs a batch is 5 µs a grab
(docs/decisions.md); this costs about 10. Everything else goes through store.py. One connection
carries many calls at once (pipelined); it knows the run_id of the server it is connected to, so
what it says of the run is true for every call that it carries. It never repeats a call.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import hiredis
from redis.asyncio.connection import parse_url

from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.scripts import Script

CONNECT_MS = 1000
RECONNECT_PAUSE_MS = 50
PROBE_MS = 1000


class _Connection(asyncio.Protocol):
    """One TCP connection: calls in, their replies in the same order."""

    def __init__(self, lost: Callable[["_Connection"], None]) -> None:
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self.run_id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(reply)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("the connection to Redis was lost"))
        self._lost(self)

    def send(self, *args: Any) -> "asyncio.Future[Any]":
        if self._transport is None:
            raise StoreUnavailable("Redis is not connected")
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._transport.write(hiredis.pack_command(args))
        return waiter

    def drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()


class Wire:
    """Keeps one connection open until stopped; calls fail at once while there is none.

    `connected` is set while there is one. `on_connect(run_id)` is called after each connect,
    `on_clock(now_ms)` about once a second with Redis' time.
    """

    def __init__(
        self,
        url: str,
        scripts: tuple[Script, ...],
        on_connect: Callable[[str], None],
        on_clock: Callable[[int], None],
    ) -> None:
        self._address = parse_url(url)
        self._scripts = scripts
        self._on_connect = on_connect
        self._on_clock = on_clock
        self._connection: _Connection | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self.connected = asyncio.Event()

    @property
    def run_id(self) -> str:
        """The run_id of the connected server, "" while there is none."""
        return self._connection.run_id if self._connection else ""

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_connected(), name="wire")

    async def stop(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        if self._connection is not None:
            self._connection.drop()

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        """One script call. Raises StoreUnavailable (ambiguous: it may have run) or StoreRefused.

        A call that is not answered in time takes its connection down: what comes after a lost
        reply can't be trusted to come at all.
        """
        connection = self._connection
        if connection is None:
            raise StoreUnavailable("Redis is not connected")
        call = ("EVALSHA", script.sha, len(keys), *keys, *args)
        reply = await self._answer(connection, timeout_ms, call)
        if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
            load = ("SCRIPT", "LOAD", script.text)
            await self._answer(connection, timeout_ms, load)
            reply = await self._answer(connection, timeout_ms, call)
        if isinstance(reply, Exception):
            raise StoreRefused(str(reply))
        return reply

    async def _answer(self, connection: _Connection, timeout_ms: int, args: tuple[Any, ...]) -> Any:
        waiter = connection.send(*args)
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                return await waiter
        except TimeoutError:
            connection.drop()
            raise StoreUnavailable(f"Redis did not answer in {timeout_ms} ms") from None

    async def _keep_connected(self) -> None:
        while True:
            self._gone.clear()
            try:
                connection = await self._connect()
            except (OSError, StoreUnavailable, StoreRefused, TimeoutError):
                await asyncio.sleep(RECONNECT_PAUSE_MS / 1000)
                continue
            self._connection = connection
            self.connected.set()
            self._on_connect(connection.run_id)
            await self._probe_until_gone(connection)
            await asyncio.sleep(RECONNECT_PAUSE_MS / 1000)

    async def _probe_until_gone(self, connection: _Connection) -> None:
        while not self._gone.is_set():
            try:
                seconds, micros = await self._answer(connection, PROBE_MS, ("TIME",))
            except StoreUnavailable:
                return
            self._on_clock(int(seconds) * 1000 + int(micros) // 1000)
            try:
                async with asyncio.timeout(PROBE_MS / 1000):
                    await self._gone.wait()
            except TimeoutError:
                continue

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        address = self._address
        make = lambda: _Connection(self._on_lost)  # noqa: E731 - a factory for the loop
        async with asyncio.timeout(CONNECT_MS / 1000):
            if path := address.get("path"):
                _, connection = await loop.create_unix_connection(make, path)
            else:
                secure = "ssl" in str(address.get("connection_class", "")).lower()
                host, port = address.get("host", "localhost"), address.get("port", 6379)
                _, connection = await loop.create_connection(
                    make, host, port, ssl=True if secure else None
                )
        try:
            if password := address.get("password"):
                await self._command(
                    connection, "AUTH", address.get("username", "default"), password
                )
            if db := address.get("db"):
                await self._command(connection, "SELECT", db)
            info = await self._command(connection, "INFO", "server")
            connection.run_id = _run_id(info)
            for script in self._scripts:
                await self._command(connection, "SCRIPT", "LOAD", script.text)
        except BaseException:
            connection.drop()
            raise
        return connection

    async def _command(self, connection: _Connection, *args: str | int) -> Any:
        reply = await self._answer(connection, CONNECT_MS, args)
        if isinstance(reply, Exception):
            raise StoreRefused(str(reply))
        return reply

    def _on_lost(self, connection: _Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self.connected.clear()
            self._gone.set()


def _run_id(info: bytes) -> str:
    for line in info.decode().splitlines():
        if line.startswith("run_id:"):
            return line[7:].strip()
    raise StoreRefused("INFO server names no run_id")
