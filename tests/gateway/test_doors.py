"""Bounds of connections: in all, from one address, and what a connection says before it counts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from flashgrab.alarms import Alarm
from gateway.doors import TOLD_MAX
from tests.gateway.serving import Served, serving, until
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

LIVEZ = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def refused(served: Served, reason: str) -> float:
    return served.metrics.values.get(("flashgrab_connections_refused", (reason,)), 0)


@asynccontextmanager
async def opened(served: Served, count: int) -> AsyncIterator[list[Stream]]:
    """So many connections."""
    streams = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(count)]
    try:
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


async def ask(stream: Stream) -> bytes:
    """What one request gets, "" where the connection is closed."""
    reader, writer = stream
    writer.write(LIVEZ)
    try:
        return await asyncio.wait_for(reader.read(4096), 5)
    except ConnectionError:
        return b""


@pytest.mark.parametrize(
    "bound, reason, alarm",
    [("connections_max", "total", True), ("connections_per_address", "address", False)],
)
async def test_one_more_than_may_be(
    redis_server: Valkey, bound: str, reason: str, alarm: bool
) -> None:
    """The third is told 503 and closed, counted, and takes no place; when one leaves, another
    comes in. Only the bound in all calls an operator."""
    changes: dict[str, Any] = {bound: 2}
    async with serving(redis_server.url, **changes) as served:
        async with opened(served, 2) as two, opened(served, 1) as more:
            for stream in two:
                assert (await ask(stream)).startswith(b"HTTP/1.1 200 ")
            answer = await ask(more[0])
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"\r\nconnection: close\r\n" in answer
            assert b'"code":"BUSY"' in answer
            assert await more[0][0].read() == b""
            assert refused(served, reason) == 1
            assert served.metrics.live["flashgrab_connections"]() == 2
            assert served.metrics.alarms.is_on(Alarm.CONNECTIONS_FULL) == alarm
            two[0][1].transport.abort()
            await until("it is gone", lambda: served.gateway.doors.inside == 1)
            async with opened(served, 1) as again:
                assert (await ask(again[0])).startswith(b"HTTP/1.1 200 ")
        await until("all are gone", lambda: served.gateway.doors.inside == 0)
        await until("nobody waits to be told", lambda: served.gateway.doors.told == 0)
        assert served.gateway.doors._by_block == {}


async def test_many_are_closed_at_once(redis_server: Valkey) -> None:
    """Past so many that are being told, the rest are closed without a word."""
    async with serving(redis_server.url, connections_max=1) as served:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(opened(served, 1))
            await until("it is in", lambda: served.gateway.doors.inside == 1)
            crowd = await stack.enter_async_context(opened(served, TOLD_MAX + 5))
            await until("all are refused", lambda: refused(served, "total") == TOLD_MAX + 5)
            assert served.gateway.doors.told <= TOLD_MAX
            answers = await asyncio.gather(*map(ask, crowd))
            assert sum(a == b"" for a in answers) >= 5
            assert {a[:13] for a in answers if a} <= {b"HTTP/1.1 503 "}
        await until("nobody waits to be told", lambda: served.gateway.doors.told == 0)


@pytest.mark.parametrize("asks", [False, True])
async def test_silence(redis_server: Valkey, asks: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and says nothing is closed; who has asked once may wait for the opening."""
    monkeypatch.setattr("gateway.hardened.Hardened.SILENT_S", 0.1)
    async with serving(redis_server.url) as served, opened(served, 1) as (stream,):
        if asks:
            await ask(stream)
            await asyncio.sleep(0.3)
            assert (await ask(stream)).startswith(b"HTTP/1.1 200 ")
        else:
            assert await asyncio.wait_for(stream[0].read(), 5) == b""
            await until("its place is free", lambda: served.gateway.doors.inside == 0)


async def test_a_listed_proxy_may_have_more(redis_server: Valkey) -> None:
    """Its connections are many buyers'; they count in all."""
    changes: dict[str, Any] = {"trusted_proxies": ("127.0.0.0/8",), "connections_per_address": 1}
    async with serving(redis_server.url, **changes) as served, opened(served, 3) as streams:
        for stream in streams:
            assert (await ask(stream)).startswith(b"HTTP/1.1 200 ")
        assert served.gateway.doors.inside == 3
