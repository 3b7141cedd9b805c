"""The grab path's own connection to Redis: hiredis on a bare asyncio protocol.

redis-py costs about 80 µs of CPU a call, which at 10 to 20 grabs a batch is 5 µs a grab
(docs/decisions.md); this costs about 10. Everything else goes through store.py. One connection
carries many calls at once (pipelined); it knows the run_id of the server it is connected to, so
what it says of the run is true for every call that it carries. It never repeats a call.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import hiredis
import structlog
from redis.asyncio.connection import parse_url

from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.scripts import Script

CONNECT_MS = 1000
RECONNECT_PAUSE_MS = 50
PROBE_MS = 1000

log = structlog.get_logger()


class _Connection(asyncio.Protocol):
    """One TCP connection: calls in, their replies in the same order.

    Anything that puts this order in doubt (a reply to nobody, bytes that are no reply) ends it:
    a reply must never reach another call.
    """

    def __init__(self, lost: Callable[["_Connection"], None]) -> None:
        self._lost = lost
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._transport: asyncio.Transport | None = None
        self.is_open = False
        self.closed = asyncio.Event()
        self.run_id = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self.is_open = True

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            log.exception("redis_protocol_error")
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("the connection to Redis was lost"))
        self.closed.set()

    def send(self, *args: str | bytes | int) -> "asyncio.Future[Any]":
        if self._transport is None or not self.is_open:
            raise StoreUnavailable("Redis is not connected")
        # Packed first: if it raises, no waiter may stand in line. (Its stub knows 1-tuples only.)
        packed = hiredis.pack_command(args)  # type: ignore[arg-type]
        waiter: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        self._transport.write(packed)
        return waiter

    def drop(self) -> None:
        """End the connection at once; its calls fail in the next turn of the loop."""
        if self._transport is not None:
            self._end()
            self._transport.abort()

    def _end(self) -> None:
        if self.is_open:
            self.is_open = False
            self._lost(self)


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
        self._problem = ""
        self.connected = asyncio.Event()

    @property
    def run_id(self) -> str:
        """The run_id of the connected server, "" while there is none."""
        return self._connection.run_id if self._connection else ""

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_connected(), name="wire")

    async def stop(self) -> None:
        """Close the connection; calls in flight fail. Nothing is pending when this returns."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        """One script call. Raises StoreUnavailable (ambiguous: it may have run) or StoreRefused.

        A call that is not answered in time takes its connection down: what comes after a lost
        reply can't be trusted to come at all.
        """
        connection = self._connection
        if connection is None:
            raise StoreUnavailable("Redis is not connected")
        call = ("EVALSHA", script.sha, len(keys), *keys, *args)
        async with _within(timeout_ms, connection):
            reply = await connection.send(*call)
            if isinstance(reply, hiredis.ReplyError) and str(reply).startswith("NOSCRIPT"):
                await connection.send("SCRIPT", "LOAD", script.text)
                reply = await connection.send(*call)
        return _value(reply)

    async def _keep_connected(self) -> None:
        while True:
            try:
                await self._connect_and_probe()
            except (OSError, StoreUnavailable, StoreRefused) as error:
                self._note(str(error) or type(error).__name__)
            except Exception as error:  # a callback's: this task is the last that may end by it
                self._note(repr(error), exc_info=True)
            await asyncio.sleep(RECONNECT_PAUSE_MS / 1000)

    def _note(self, problem: str, *, exc_info: bool = False) -> None:
        """Log a problem once, not at each of the attempts that it lasts."""
        if problem != self._problem:
            log.warning("redis_not_connected", error=problem, exc_info=exc_info)
        self._problem = problem

    async def _connect_and_probe(self) -> None:
        connection = await self._open()
        try:
            await self._introduce(connection)
            if not connection.is_open:
                raise StoreUnavailable("the connection to Redis was lost")
            self._connection, self._problem = connection, ""
            self.connected.set()
            self._on_connect(connection.run_id)
            await self._probe_until_closed(connection)
        finally:
            connection.drop()
            await connection.closed.wait()

    async def _probe_until_closed(self, connection: _Connection) -> None:
        while connection.is_open:
            async with _within(PROBE_MS, connection):
                reply = await connection.send("TIME")
            if isinstance(reply, list):  # not an error, as while a script blocks the server
                self._on_clock(int(reply[0]) * 1000 + int(reply[1]) // 1000)
            with suppress(TimeoutError):
                async with asyncio.timeout(PROBE_MS / 1000):
                    await connection.closed.wait()

    async def _open(self) -> _Connection:
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
        return connection

    async def _introduce(self, connection: _Connection) -> None:
        """Log in, learn the run_id, load the scripts."""
        address = self._address
        async with _within(CONNECT_MS, connection):
            if password := address.get("password"):
                user = address.get("username", "default")
                _value(await connection.send("AUTH", user, password))
            if db := address.get("db"):
                _value(await connection.send("SELECT", db))
            connection.run_id = _run_id(_value(await connection.send("INFO", "server")))
            for script in self._scripts:
                _value(await connection.send("SCRIPT", "LOAD", script.text))

    def _on_lost(self, connection: _Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self.connected.clear()


@asynccontextmanager
async def _within(timeout_ms: int, connection: _Connection) -> AsyncIterator[None]:
    """Past the deadline, take the connection down and raise StoreUnavailable."""
    try:
        async with asyncio.timeout(timeout_ms / 1000):
            yield
    except TimeoutError:
        connection.drop()
        raise StoreUnavailable(f"Redis did not answer in {timeout_ms} ms") from None


def _value(reply: Any) -> Any:
    if isinstance(reply, Exception):
        raise StoreRefused(str(reply))
    return reply


def _run_id(info: Any) -> str:
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    for line in text.splitlines():
        if line.startswith("run_id:"):
            return line[7:].strip()
    raise StoreRefused("INFO server names no run_id")
