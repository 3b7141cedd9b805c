"""The raw HTTP client of the crowd."""

import asyncio
import time

import pytest

from flashgrab.cli.rehearsal.connection import Address, Connection, NoReply
from tests.cli.rehearsal.scripted import Scripted, scripted

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    "url, expected",
    [
        ("http://127.0.0.1:8000", Address("127.0.0.1", 8000, secure=False)),
        ("https://shop.example/", Address("shop.example", 443, secure=True)),
        ("http://[::1]:9", Address("::1", 9, secure=False)),
    ],
)
def test_an_address_comes_from_a_url(url: str, expected: Address) -> None:
    """Host, port (or the scheme's own) and whether it is encrypted."""
    assert Address.of(url) == expected


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://x", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    """The error shows what was given."""
    with pytest.raises(ValueError, match="expected http"):
        Address.of(url)


def test_the_host_header_brackets_ipv6() -> None:
    """As RFC 3986 wants it."""
    assert Address("::1", 9, secure=False).authority == "[::1]:9"


def test_one_connection_carries_many_requests() -> None:
    """Answers come whole and in order over one socket."""

    async def story() -> None:
        async with scripted(lambda head: (200, {"head": head})) as gateway:
            connection = Connection(gateway.address)
            for number in range(3):
                request = f"GET /{number} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                reply = await connection.ask(request, 5)
                assert reply.status == 200
                assert f"/{number} ".encode() in reply.body
            assert gateway.connections == 1
            connection.close()

    asyncio.run(story())


def test_a_lost_connection_is_no_reply_and_the_next_request_connects_again() -> None:
    """The caller learns of it at once, and may go on with the same object."""
    answers: list[Scripted] = [None, (201, {})]

    async def story() -> None:
        async with scripted(lambda _head: answers.pop(0)) as gateway:
            connection = Connection(gateway.address)
            with pytest.raises(NoReply):
                await connection.ask(GET, 5)
            assert (await connection.ask(GET, 5)).status == 201
            assert gateway.connections == 2
            connection.close()

    asyncio.run(story())


def test_a_connection_that_ends_unnoticed_is_no_reply() -> None:
    """Lost between two requests, before anybody was told: at once, not when time is up."""

    async def story() -> None:
        async with scripted(lambda _head: (201, {})) as gateway:
            connection = Connection(gateway.address)
            assert (await connection.ask(GET, 5)).status == 201
            assert connection._transport is not None
            connection._transport.abort()
            with pytest.raises(NoReply, match="connection closed"):
                await connection.ask(GET, 5)
            assert (await connection.ask(GET, 5)).status == 201
            connection.close()

    asyncio.run(story())


def test_nobody_listening_is_no_reply() -> None:
    """A refused connection is told like a lost one."""

    async def story() -> None:
        async with scripted(lambda _head: None) as gateway:
            address = gateway.address
        with pytest.raises(NoReply):
            await Connection(address).ask(GET, 5)

    asyncio.run(story())


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
        b"what is this\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 9999999\r\n\r\n" + b"x" * 1_100_000,
    ],
    ids=["silence", "half an answer", "not HTTP", "too much"],
)
def test_what_is_no_whole_answer_ends_in_time(sent: bytes) -> None:
    """Silence, half an answer, nonsense and a flood all end as NoReply within the time-out."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(sent)
        await reader.read()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], secure=False)
        began = time.monotonic()
        with pytest.raises(NoReply):
            await Connection(address).ask(GET, 0.3)
        assert time.monotonic() - began < 3
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(story())


def test_a_reply_that_closes_is_taken_and_the_next_request_connects_again() -> None:
    """`Connection: close` costs a connection, never an answer."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 X\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async def story() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        address = Address("127.0.0.1", server.sockets[0].getsockname()[1], secure=False)
        connection = Connection(address)
        for _ in range(3):
            assert await connection.ask(GET, 5) == (201, b"{}")
        connection.close()
        server.close()
        await asyncio.sleep(0.05)

    asyncio.run(story())
