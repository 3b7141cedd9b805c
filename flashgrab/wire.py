"""The grab path's own connection to Redis: hiredis on a bare asyncio protocol.

redis-py costs about 80 µs of CPU a call, which at 10 to 20 grabs a batch is 5 µs a grab
(docs/decisions.md); this costs about 10. Everything else goes through store.py. One connection
carries many calls at once (pipelined); it knows the run_id of the server it is connected to, so
what it says of the run is true for every call that it carries. It never repeats a call.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, cast

import hiredis
import structlog
from redis.asyncio.connection import parse_url

from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.scripts import Script

CONNECT_MS = 1000
RECONNECT_PAUSE_MS = 50
PROBE_MS = 1000

log = structlog.get_logger()


class ScriptMissing(StoreRefused):
    """The server does not know the script, as after its restart; nothing ran."""


class Calls(Protocol):
    """What makes script calls as Wire does."""

    @property
    def connected(self) -> asyncio.Event: ...

    @property
    def run_id(self) -> str: ...

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]": ...

    async def run(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> Any: ...


class _Connection(asyncio.Protocol):
    """One TCP connection: calls in, their replies in the same order.

    Anything that puts this order in doubt (a reply to nobody, bytes that are no reply, a reply
    that is late) ends it: a reply must never reach another call.
    """

    def __init__(self, lost: Callable[["_Connection"], None]) -> None:
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._waiting: deque[tuple[asyncio.Future[Any], float, int]] = deque()
        self._timer: asyncio.TimerHandle | None = None  # one for all calls: no cost for each
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
                waiter = self._waiting.popleft()[0]
                if waiter.done():
                    continue
                if isinstance(reply, hiredis.ReplyError):
                    waiter.set_exception(_refusal(str(reply)))
                else:
                    waiter.set_result(reply)
        except (hiredis.HiredisError, IndexError):
            log.exception("redis_protocol_error")
            self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()
        while self._waiting:
            waiter = self._waiting.popleft()[0]
            if not waiter.done():
                waiter.set_exception(StoreUnavailable("the connection to Redis was lost"))
        self.closed.set()

    def send(self, timeout_ms: int, *args: str | bytes | int) -> "asyncio.Future[Any]":
        """A command; its reply as a future. Past its time the connection is taken down."""
        if self._transport is None or not self.is_open:
            raise StoreUnavailable("Redis is not connected")
        # Packed first: if it raises, no waiter may stand in line. (Its stub knows 1-tuples only.)
        packed = hiredis.pack_command(args)  # type: ignore[arg-type]
        waiter: asyncio.Future[Any] = self._loop.create_future()
        late_at = self._loop.time() + timeout_ms / 1000
        self._waiting.append((waiter, late_at, timeout_ms))
        if self._timer is None or self._timer.when() > late_at:
            self._watch(late_at)
        self._transport.write(packed)
        return waiter

    def _watch(self, late_at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(late_at, self._look)

    def _look(self) -> None:
        """Whether a call is late; else look again when the next one would be."""
        self._timer = None
        now = self._loop.time()
        late = [call for call in self._waiting if call[1] <= now]
        for waiter, _, timeout_ms in late:
            if not waiter.done():
                text = f"Redis did not answer in {timeout_ms} ms"
                waiter.set_exception(StoreUnavailable(text))
        if late:
            self.drop()
        elif self._waiting:
            self._watch(min(call[1] for call in self._waiting))

    def drop(self) -> None:
        """End the connection at once; its calls fail in the next turn of the loop."""
        if self._transport is not None:
            self._end()
            self._transport.abort()

    def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
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
        self.run_id = ""
        """Of the connected server; "" while there is none."""

    def start(self) -> None:
        self._keeper = asyncio.create_task(self._keep_connected(), name="wire")

    async def stop(self) -> None:
        """Close the connection; calls in flight fail. Nothing is pending when this returns."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        """One script call. Raises StoreUnavailable at once where there is no connection.

        The future raises StoreUnavailable (ambiguous: it may have run), ScriptMissing or
        StoreRefused. A call that is not answered in time takes its connection down: what comes
        after a lost reply can't be trusted to come at all.
        """
        connection = self._connection
        if connection is None:
            raise StoreUnavailable("Redis is not connected")
        return connection.send(timeout_ms, "EVALSHA", script.sha, len(keys), *keys, *args)

    def send(self, timeout_ms: int, *args: str | bytes | int) -> "asyncio.Future[Any]":
        """One command as it is; what call() says of time-outs holds for it too."""
        if self._connection is None:
            raise StoreUnavailable("Redis is not connected")
        return self._connection.send(timeout_ms, *args)

    @property
    def problem(self) -> str:
        """Why it is not connected, "" where that is not known."""
        return self._problem

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        """call(), once more where the server did not know the script; one time-out for all."""
        loop = asyncio.get_running_loop()
        late_at = loop.time() + timeout_ms / 1000

        def left_ms() -> int:
            return max(0, int((late_at - loop.time()) * 1000))

        try:
            return await self.call(script, keys, args, timeout_ms)
        except ScriptMissing:
            if self._connection is None:
                raise
            await self._connection.send(left_ms(), "SCRIPT", "LOAD", script.text)
            return await self.call(script, keys, args, left_ms())

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
            self.run_id = connection.run_id
            self.connected.set()
            self._on_connect(connection.run_id)
            await self._probe_until_closed(connection)
        finally:
            connection.drop()
            await connection.closed.wait()

    async def _probe_until_closed(self, connection: _Connection) -> None:
        while connection.is_open:
            with suppress(StoreRefused):  # as while a script blocks the server
                reply = await connection.send(PROBE_MS, "TIME")
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
        if password := address.get("password"):
            user = address.get("username", "default")
            await connection.send(CONNECT_MS, "AUTH", user, password)
        if db := address.get("db"):
            await connection.send(CONNECT_MS, "SELECT", db)
        connection.run_id = _run_id(await connection.send(CONNECT_MS, "INFO", "server"))
        for script in self._scripts:
            await connection.send(CONNECT_MS, "SCRIPT", "LOAD", script.text)

    def _on_lost(self, connection: _Connection) -> None:
        if connection is self._connection:
            self._connection = None
            self.run_id = ""
            self.connected.clear()


def _refusal(text: str) -> StoreRefused:
    return ScriptMissing(text) if text.startswith("NOSCRIPT") else StoreRefused(text)


def _run_id(info: Any) -> str:
    text = info.decode(errors="replace") if isinstance(info, bytes) else ""
    for line in text.splitlines():
        if line.startswith("run_id:"):
            return line[7:].strip()
    raise StoreRefused("INFO server names no run_id")
