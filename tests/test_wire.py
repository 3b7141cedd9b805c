"""wire.py against a real Valkey, and against a peer that loses, garbles and withholds replies."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import hiredis
import pytest

from flashgrab import wire as wire_module
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.scripts import Script
from flashgrab.wire import Wire
from tests.gateway.serving import until
from tests.lua.server import Client, Valkey, valkey

ECHO = Script("echo", keys=("key",), args=("value",))
ECHO.__dict__["text"] = "return {KEYS[1], ARGV[1]}"
FAILS = Script("fails", keys=(), args=())
FAILS.__dict__["text"] = "return redis.error_reply('ERR as asked')"
TIMEOUT_MS = 2000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(tcp=True) as running:
        yield running


@dataclass
class Seen:
    """What a wire told its owner."""

    run_ids: list[str] = field(default_factory=list)
    clock: list[int] = field(default_factory=list)


@asynccontextmanager
async def wired(url: str, seen: Seen | None = None) -> AsyncIterator[Wire]:
    """A started wire; it stops with the block."""
    seen = seen or Seen()
    wire = Wire(url, (ECHO,), seen.run_ids.append, seen.clock.append)
    wire.start()
    try:
        yield wire
    finally:
        await wire.stop()


async def connected(wire: Wire) -> None:
    await asyncio.wait_for(wire.connected.wait(), 5)


async def echo(wire: Wire, value: str, timeout_ms: int = TIMEOUT_MS) -> Any:
    return await wire.run(ECHO, ["k"], [value], timeout_ms)


# -- against a real server ------------------------------------------------------------------------


async def test_call_and_reply(server: Valkey) -> None:
    """A call gets its reply; the run_id is the server's; the clock is told at once."""
    seen = Seen()
    async with wired(server.url, seen) as wire:
        await connected(wire)
        assert await echo(wire, "é") == [b"k", "é".encode()]
        client = Client(server.path)
        assert f"run_id:{wire.run_id}" in client.call("INFO", "server")
        assert seen.run_ids == [wire.run_id]
        await until("no clock", lambda: seen.clock)
        assert abs(seen.clock[0] - client.now_ms()) < 5000
        client.close()


async def test_many_calls_at_once_get_their_own_replies(server: Valkey) -> None:
    """Calls in flight together are answered each with its own reply."""
    async with wired(server.url) as wire:
        await connected(wire)
        replies = await asyncio.gather(*(echo(wire, str(n)) for n in range(500)))
        assert replies == [[b"k", str(n).encode()] for n in range(500)]


async def test_unix_socket(server: Valkey) -> None:
    """A unix:// address works as well."""
    async with wired(f"unix://{server.path}?db=0") as wire:
        await connected(wire)
        assert await echo(wire, "1") == [b"k", b"1"]


async def test_database_of_the_address(server: Valkey) -> None:
    """The database number of the address is selected."""
    sets = Script("sets", keys=("key",), args=())
    sets.__dict__["text"] = "redis.call('SET', KEYS[1], 'x') return {1}"
    async with wired(server.url.replace("/0", "/3")) as wire:
        await connected(wire)
        await wire.run(sets, ["only-here"], [], TIMEOUT_MS)
    client = Client(server.path)
    assert client.many([("EXISTS", "only-here"), ("SELECT", 3), ("EXISTS", "only-here")]) == [
        0,
        "OK",
        1,
    ]
    client.close()


async def test_scripts_flushed(server: Valkey) -> None:
    """After SCRIPT FLUSH a call loads its script and is answered; so are those beside it."""
    async with wired(server.url) as wire:
        await connected(wire)
        client = Client(server.path)
        client.call("SCRIPT", "FLUSH")
        assert await asyncio.gather(*(echo(wire, str(n)) for n in range(5))) == [
            [b"k", str(n).encode()] for n in range(5)
        ]
        client.close()


async def test_error_reply_is_refused(server: Valkey) -> None:
    """An error of the script is StoreRefused, and the connection stays."""
    async with wired(server.url) as wire:
        await connected(wire)
        before = wire.run_id
        with pytest.raises(StoreRefused, match="as asked"):
            await wire.run(FAILS, [], [], TIMEOUT_MS)
        assert wire.connected.is_set()
        assert wire.run_id == before
        assert await echo(wire, "1") == [b"k", b"1"]


async def test_argument_that_cannot_be_sent(server: Valkey) -> None:
    """It is an error of that call alone: no later call gets a reply that is not its own."""
    async with wired(server.url) as wire:
        await connected(wire)
        for odd in (None, ["a"], "\ud800"):
            with pytest.raises((TypeError, UnicodeEncodeError)):
                await wire.run(ECHO, ["k"], [odd], TIMEOUT_MS)
        assert await echo(wire, "mine") == [b"k", b"mine"]


async def test_cancelled_call_leaves_the_line_in_order(server: Valkey) -> None:
    """The reply to a call that nobody waits for any more is nobody's."""
    async with wired(server.url) as wire:
        await connected(wire)
        tasks = [asyncio.create_task(echo(wire, str(n))) for n in range(20)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        replies = await asyncio.gather(*tasks[1::2])
        assert replies == [[b"k", str(n).encode()] for n in range(1, 20, 2)]
        assert await echo(wire, "after") == [b"k", b"after"]


async def test_wrong_password_never_connects(server: Valkey) -> None:
    """With a wrong password there is no connection and no crash; with the right one there is."""
    client = Client(server.path)
    client.call("CONFIG", "SET", "requirepass", "right")
    try:
        seen = Seen()
        async with wired(server.url.replace("//", "//:wrong@"), seen) as wire:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(wire.connected.wait(), 0.3)
            with pytest.raises(StoreUnavailable):
                await echo(wire, "1")
            client.call("CONFIG", "SET", "requirepass", "wrong")
            await connected(wire)
            assert await echo(wire, "1") == [b"k", b"1"]
            assert len(seen.run_ids) == 1
    finally:
        client.call("CONFIG", "SET", "requirepass", "")
        client.close()


async def test_restarted_server_is_another_run() -> None:
    """After kill -9 and a restart the wire connects anew and tells the new run_id."""
    seen = Seen()
    with valkey(tcp=True) as own:
        async with wired(own.url, seen) as wire:
            await connected(wire)
            first = wire.run_id
            own.kill()
            await until("the loss was not noticed", lambda: not wire.connected.is_set())
            assert wire.run_id == ""
            with pytest.raises(StoreUnavailable):
                await echo(wire, "1")
            own.start()
            await connected(wire)
            assert wire.run_id not in ("", first)
            assert seen.run_ids == [first, wire.run_id]
            assert await echo(wire, "1") == [b"k", b"1"]


async def test_connection_killed_under_load(server: Valkey) -> None:
    """CLIENT KILL while calls are in flight: each gets its own reply or StoreUnavailable."""
    client = Client(server.path)
    async with wired(server.url) as wire:
        for _ in range(5):
            await connected(wire)
            tasks = [asyncio.create_task(echo(wire, str(n))) for n in range(300)]
            await asyncio.sleep(0)
            client.call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            replies = await asyncio.gather(*tasks, return_exceptions=True)
            for n, reply in enumerate(replies):
                assert reply == [b"k", str(n).encode()] or isinstance(reply, StoreUnavailable)
            await until("no connection", lambda: not wire.connected.is_set() or wire.run_id)
    client.close()


async def test_stop_leaves_nothing_pending(server: Valkey) -> None:
    """After stop() no task is left, calls in flight have failed, and new ones fail."""
    tasks_before = asyncio.all_tasks()
    wire = Wire(server.url, (ECHO,), lambda _: None, lambda _: None)
    wire.start()
    await connected(wire)
    client = Client(server.path)
    client.call("CLIENT", "PAUSE", 10_000, "WRITE")
    call = asyncio.create_task(echo(wire, "1"))
    await asyncio.sleep(0)
    await wire.stop()
    with pytest.raises(StoreUnavailable):
        await call
    client.call("CLIENT", "UNPAUSE")
    client.close()
    assert asyncio.all_tasks() == tasks_before
    assert wire.run_id == ""
    assert not wire.connected.is_set()
    with pytest.raises(StoreUnavailable):
        await echo(wire, "1")


async def test_stop_without_start_or_server() -> None:
    """stop() works before start(), and while there is no server to connect to."""
    await Wire("redis://127.0.0.1:1/0", (), lambda _: None, lambda _: None).stop()
    async with wired("redis://127.0.0.1:1/0") as wire:
        await asyncio.sleep(0)
        assert not wire.connected.is_set()


# -- against a peer that misbehaves ---------------------------------------------------------------

INTRODUCTION: dict[bytes, bytes] = {
    b"INFO": b"$13\r\nrun_id:peer\r\n\r\n",
    b"SCRIPT": b"+ok\r\n",
    b"TIME": b"*2\r\n$1\r\n7\r\n$6\r\n500000\r\n",
}


@dataclass
class Peer:
    """A server that answers each command by `answer`: bytes, or None to close the connection."""

    answer: Callable[[list[bytes]], Awaitable[bytes | None]]
    connections: int = 0
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        commands = hiredis.Reader()
        try:
            while data := await reader.read(65536):
                commands.feed(data)
                while (command := commands.gets()) is not False:
                    answer = await self.answer(command)
                    if answer is None:
                        return
                    writer.write(answer)
        except ConnectionError:
            pass
        finally:
            writer.close()


@asynccontextmanager
async def peer(answer: Callable[[list[bytes]], Awaitable[bytes | None]]) -> AsyncIterator[Peer]:
    there = Peer(answer)
    server = await asyncio.start_server(there.serve, "127.0.0.1", 0)
    there.url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0"
    try:
        yield there
    finally:
        server.close()


def introduced(
    calls: Callable[[list[bytes]], bytes | None],
) -> Callable[[list[bytes]], Awaitable[bytes | None]]:
    """Behave like a server until the first EVALSHA, which `calls` answers."""

    async def answer(command: list[bytes]) -> bytes | None:
        return INTRODUCTION[command[0]] if command[0] in INTRODUCTION else calls(command)

    return answer


def bulk(value: bytes) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(value), value)


async def test_reply_that_never_comes() -> None:
    """The call ends within its time-out, and those behind it; then there is a new connection."""
    silent = True
    async with (
        peer(introduced(lambda c: b"" if silent else bulk(c[-1]))) as there,
        wired(there.url) as wire,
    ):
        await connected(wire)
        started = time.monotonic()
        calls = [echo(wire, "1", 100), echo(wire, "2", 30_000)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert 0.09 < time.monotonic() - started < 2
        assert [type(result) for result in results] == [StoreUnavailable] * 2
        assert "100 ms" in str(results[0])
        assert not wire.connected.is_set()
        silent = False
        await connected(wire)
        assert await echo(wire, "3") == b"3"
        assert there.connections == 2


async def test_connection_closed_instead_of_a_reply() -> None:
    """A lost reply is StoreUnavailable at once, and the next call has a new connection."""
    closes = True
    async with (
        peer(introduced(lambda c: None if closes else bulk(c[-1]))) as there,
        wired(there.url) as wire,
    ):
        await connected(wire)
        with pytest.raises(StoreUnavailable, match="lost"):
            await echo(wire, "1", 30_000)
        closes = False
        await connected(wire)
        assert await echo(wire, "2") == b"2"


@pytest.mark.parametrize(
    "extra", [b"+to nobody\r\n", b"\x00\xff garbage\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n"]
)
async def test_bytes_that_are_no_call_s_reply(extra: bytes) -> None:
    """A reply to nobody, or bytes that are none, end the connection: no call gets another's."""
    odd = True
    async with (
        peer(introduced(lambda c: bulk(c[-1]) + (extra if odd else b""))) as there,
        wired(there.url) as wire,
    ):
        await connected(wire)
        assert await echo(wire, "1") == b"1"
        await until("the connection was kept", lambda: there.connections == 2)
        odd = False
        await connected(wire)
        assert await echo(wire, "2") == b"2"


async def test_reply_in_pieces() -> None:
    """Replies that arrive byte by byte, and several in one packet, are the same replies."""

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        commands = hiredis.Reader()
        while data := await reader.read(65536):
            commands.feed(data)
            while (command := commands.gets()) is not False:
                for byte in INTRODUCTION.get(command[0]) or bulk(command[-1]):
                    writer.write(bytes([byte]))
                    await writer.drain()
        writer.close()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with wired(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}/0") as wire:
        await connected(wire)
        replies = await asyncio.gather(*(echo(wire, f"value {n}") for n in range(20)))
        assert replies == [f"value {n}".encode() for n in range(20)]
    server.close()


async def test_no_script_twice_is_refused_and_in_time() -> None:
    """NOSCRIPT after the script was loaded is StoreRefused: it is handled once."""
    commands: list[bytes] = []

    async def never_knows(command: list[bytes]) -> bytes:
        commands.append(command[0])
        return INTRODUCTION.get(command[0]) or b"-NOSCRIPT No matching script.\r\n"

    async with peer(never_knows) as there, wired(there.url) as wire:
        await connected(wire)
        with pytest.raises(StoreRefused, match="NOSCRIPT"):
            await echo(wire, "1")
        assert commands.count(b"EVALSHA") == 2


async def test_time_out_holds_for_loading_and_repeating_together() -> None:
    """A call that must load its script has one time-out in all, not one a step."""
    slow = asyncio.Event()

    async def stalls(command: list[bytes]) -> bytes:
        if command[0] == b"EVALSHA":
            slow.set()
            return b"-NOSCRIPT No matching script.\r\n"
        if slow.is_set():
            await asyncio.sleep(0.08)
        return INTRODUCTION[command[0]]

    async with peer(stalls) as there, wired(there.url) as wire:
        await connected(wire)
        started = time.monotonic()
        with pytest.raises((StoreUnavailable, StoreRefused)):
            await echo(wire, "1", 100)
        assert time.monotonic() - started < 0.15


async def test_silent_server_is_noticed_by_the_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that stops answering loses its connection, also when no call is made."""
    monkeypatch.setattr(wire_module, "PROBE_MS", 30)
    probes = 0

    async def falls_silent(command: list[bytes]) -> bytes:
        nonlocal probes
        probes += command[0] == b"TIME"
        return b"" if command[0] == b"TIME" and probes == 3 else INTRODUCTION[command[0]]

    async with peer(falls_silent) as there, wired(there.url) as wire:
        await until("the silence was not noticed", lambda: there.connections == 2)
        await connected(wire)


async def test_error_instead_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that answers the probe by an error (a script blocks it) keeps its connection."""
    monkeypatch.setattr(wire_module, "PROBE_MS", 30)
    seen, errors = Seen(), 0

    async def busy(command: list[bytes]) -> bytes:
        nonlocal errors
        if command[0] == b"TIME" and errors < 3:
            errors += 1
            return b"-BUSY Redis is busy running a script.\r\n"
        return INTRODUCTION[command[0]]

    async with peer(busy) as there, wired(there.url, seen):
        await until("the keeper ended with the error", lambda: seen.clock)
        assert (errors, there.connections, seen.clock[0]) == (3, 1, 7500)


@pytest.mark.parametrize(
    "introduction",
    [b":42\r\n", b"$2\r\n\xff\xfe\r\n", b"$5\r\nhello\r\n", b"-LOADING wait\r\n", b"*0\r\n", b"!"],
)
async def test_peer_that_is_no_redis(introduction: bytes) -> None:
    """An answer to INFO that names no run is no connection; once there is a good one, there is."""
    odd = True
    seen = Seen()

    async def answer(command: list[bytes]) -> bytes:
        return introduction if odd and command[0] == b"INFO" else INTRODUCTION[command[0]]

    async with peer(answer) as there, wired(there.url, seen) as wire:
        await until("it gave up", lambda: there.connections >= 3)
        assert seen.run_ids == []
        odd = False
        await connected(wire)
        assert seen.run_ids == ["peer"]


async def test_connection_lost_behind_the_last_word_of_the_introduction() -> None:
    """A peer that closes with its last reply leaves no dead connection behind that looks open."""
    connections = 0

    async def closes(command: list[bytes]) -> bytes | None:
        nonlocal connections
        connections += command[0] == b"INFO"
        if command[0] == b"TIME" and connections < 4:
            return None
        return INTRODUCTION.get(command[0]) or bulk(command[-1])

    async with peer(closes) as there, wired(there.url) as wire:
        await until("it gave up", lambda: connections >= 4)
        await connected(wire)
        assert wire.run_id == "peer"
        assert await echo(wire, "1") == b"1"
        assert there.connections == 4


async def test_owner_whose_callback_fails(server: Valkey) -> None:
    """A callback that raises does not end the keeper: the wire connects again."""
    calls: list[str] = []

    def fails_once(run_id: str) -> None:
        calls.append(run_id)
        if len(calls) == 1:
            raise RuntimeError("as asked")

    wire = Wire(server.url, (ECHO,), fails_once, lambda _: None)
    wire.start()
    await until("the keeper ended", lambda: len(calls) == 2)
    await connected(wire)
    assert await echo(wire, "1") == [b"k", b"1"]
    await wire.stop()
