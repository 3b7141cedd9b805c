"""The bounds of a hardened server, on both classes: too slow, too large, not one Host."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from flashgrab.clock import SystemClock
from gateway.hardened import Hardened
from tests.gateway.lane.bodies import PATH
from tests.gateway.lane.conversation import STATUS, Client, connect
from tests.gateway.lane.plain import BROWSER, HOST, LIVEZ, grab, of_a_grab, raw, without
from tests.gateway.lane.sides import LANE, TWIN, Side, one_side
from tests.gateway.serving import until
from tests.gateway.wires import HeldWire
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

REQUEST_S = 0.4
STEP_S = 0.05
UNREAD = 20_000
"""Requests, whose answers are more than the sockets between take (a few MB)."""
UNREAD_BYTES_MAX = 500_000


def _short(kind: type[Hardened]) -> type[Hardened]:
    """The class with a deadline that a test can wait for."""
    return type(f"Short{kind.__name__}", (kind,), {"REQUEST_S": REQUEST_S})


@pytest.fixture(params=[TWIN, LANE], ids=["twin", "lane"], scope="module")
async def side(
    request: pytest.FixtureRequest, two_servers: tuple[Valkey, Valkey], anyio_backend: Any
) -> AsyncIterator[Side]:
    kind, clock = _short(request.param), SystemClock()
    async with one_side(kind, two_servers[0], clock.now_ms(), clock) as running:
        yield running


async def _trickle(client: Client, pieces: Sequence[bytes]) -> None:
    for piece in pieces:
        if client.closed:
            return
        client.write(piece)
        await asyncio.sleep(STEP_S)


async def _refused(client: Client, *expected: int) -> Any:
    """The statuses in order and then the end; the last body, which is a problem."""
    await until("the connection is closed", lambda: client.closed, 10)
    assert [int(s) for s in STATUS.findall(client.data)] == list(expected)
    head, _, body = STATUS.split(bytes(client.data))[-1].partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    assert b"connection: close" in head
    assert b"cache-control: no-store" in head
    problem = json.loads(body)
    assert problem["status"] == expected[-1]
    return problem


def _own(user: str) -> bytes:
    return raw(headers=[*BROWSER, *of_a_grab(user)])


SLOW: dict[str, Sequence[bytes]] = {
    "first line": [b"P", b"O", b"S", b"T"] + [b" "] * 40,
    "head": [_own("slow-1")[n : n + 2] for n in range(0, 200, 2)],
    "one byte is missing": [_own("slow-2")[:-1]],
    "blank lines first": [b"\r\n", _own("slow-3")[:70], *([b"x"] * 60)],
    "body": [raw(headers=[*HOST, ("Content-Length", "100"), *of_a_grab("slow-4")])] + [b"x"] * 60,
    "no body": [raw(headers=[*HOST, ("Content-Length", "1"), *of_a_grab("slow-5")])],
    "chunks": [raw(headers=[*HOST, ("Transfer-Encoding", "chunked"), *of_a_grab("slow-6")])]
    + [b"1\r\nx\r\n"] * 60,
    "another address": [LIVEZ[:-2], *([b"X: y\r\n"] * 60)],
}


@pytest.mark.parametrize("what", SLOW)
async def test_too_slow(side: Side, what: str) -> None:
    """A request that is not whole in time is answered 408, however its bytes trickle."""
    client, _ = await connect(side)
    started = time.monotonic()
    await _trickle(client, SLOW[what])
    problem = await _refused(client, 408)
    assert time.monotonic() - started >= REQUEST_S * 0.9
    assert problem["code"] == "REQUEST_TIMEOUT"


async def test_the_deadline_is_of_one_request(side: Side) -> None:
    """A connection may idle longer than a request may take, and each request has all its time."""
    client, _ = await connect(side)
    for number in range(3):
        data = _own(f"idle-{number}")
        client.write(data[:50])
        await asyncio.sleep(REQUEST_S * 0.6)
        client.write(data[50:])
        await until("an answer", lambda n=number: client.data.count(b'"serial"') == n + 1)  # type: ignore[misc]
        await asyncio.sleep(REQUEST_S * 0.6)
    assert not client.closed
    client.abort()


@pytest.fixture
async def held(side: Side) -> AsyncIterator[HeldWire]:
    """The calls of one campaign are held back."""
    batchers = side.served.gateway.batchers
    was = batchers.pop("open", None)
    wire = HeldWire(side.served.gateway.wire)
    side.served.through(wire, "open", deadline_ms=10_000)
    yield wire
    del batchers["open"]
    if was is not None:
        batchers["open"] = was


async def test_a_slow_redis_is_not_a_slow_client(side: Side, held: HeldWire) -> None:
    """A whole request waits for its answer past the deadline of receiving; what follows it and is
    not whole is refused after that answer, in order."""
    whole, half = await connect(side), await connect(side)
    whole[0].write(_own("held-1"))
    half[0].write(_own("held-2") + _own("held-3")[:100])
    await asyncio.sleep(REQUEST_S * 2)
    assert (bytes(whole[0].data), bytes(half[0].data)) == (b"", b"")
    held.release.set()
    await until("an answer", lambda: b" 201 " in whole[0].data)
    assert not whole[0].closed
    await _refused(half[0], 201, 408)
    whole[0].abort()


async def test_what_we_do_not_read_is_not_late(side: Side, held: HeldWire) -> None:
    """Behind two grabs that wait we stop reading: the third, sent in time, is answered."""
    client, seen = await connect(side)
    third = _own("unread-3")
    client.write(_own("unread-1") + _own("unread-2") + third[:100])
    await until("it is read", lambda: seen.received == client.sent)
    client.write(third[100:])
    await asyncio.sleep(REQUEST_S * 2)
    held.release.set()
    await until("all answers", lambda: client.data.count(b" 201 ") == 3)
    assert not client.closed
    client.abort()


def _with(*more: tuple[str, str]) -> bytes:
    return raw(headers=[*BROWSER, *of_a_grab("large"), *more])


def _long(length: str) -> bytes:
    return raw(headers=[*HOST, ("Content-Length", length)])


LARGE: dict[str, tuple[bytes, int, str]] = {
    "a header of 17 KB": (_with(("X", "y" * 17_000)), 431, "HEAD_TOO_LARGE"),
    "a name of 17 KB": (_with(("X" * 17_000, "y")), 431, "HEAD_TOO_LARGE"),
    "65 headers": (_with(*(("X", "y") for _ in range(51))), 431, "HEAD_TOO_LARGE"),
    "1000 headers": (_with(*(("X", "y") for _ in range(1000))), 431, "HEAD_TOO_LARGE"),
    "17 KB and no end": (_with()[:-2] + b"X: " + b"y" * 17_000, 431, "HEAD_TOO_LARGE"),
    "a long address": (raw(target=PATH + "?" + "x" * 9000), 414, "URL_TOO_LONG"),
    "a length of 4097": (_long("4097"), 413, "REQUEST_TOO_LARGE"),
    "a length past all": (_long("9" * 19), 413, "REQUEST_TOO_LARGE"),
    "chunks of 4097": (
        raw(headers=[*HOST, ("Transfer-Encoding", "chunked")], body=b"1001\r\n" + b"x" * 4097),
        413, "REQUEST_TOO_LARGE",
    ),
    "a body elsewhere": (
        raw("POST", "/v1/campaigns/open/passes", [*HOST, ("Content-Length", "5000")]),
        413, "REQUEST_TOO_LARGE",
    ),
    "no host": (raw(headers=[*without("Host"), *of_a_grab("large")]), 400, "INVALID_REQUEST"),
    "two hosts": (_with(("Host", "b")), 400, "INVALID_REQUEST"),
    "the same host twice": (_with(BROWSER[0]), 400, "INVALID_REQUEST"),
    "no host elsewhere": (raw("GET", "/livez", []), 400, "INVALID_REQUEST"),
    "no request": (b"hello\r\n\r\n", 400, "INVALID_REQUEST"),
}  # fmt: skip


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("what", LARGE)
async def test_too_large_or_wrong(side: Side, what: str, before: int) -> None:
    """Refused at once as a problem and closed, after the answers to what came before it."""
    data, status, code = LARGE[what]
    client, seen = await connect(side)
    name = f"{what}-{before}-".replace(" ", "-")
    client.write(b"".join(grab(f"{name}{n}") for n in range(before)))
    await until("they are read", lambda: seen.received == client.sent)
    client.write(data)
    assert (await _refused(client, *[201] * before, status))["code"] == code


@pytest.mark.parametrize("pieces", [2, 40])
async def test_a_large_head_in_pieces(side: Side, pieces: int) -> None:
    """The bound holds over all the bytes of a head, not of one read."""
    data = _with(*((f"X-{n}", "y" * 1000) for n in range(17)))
    step = len(data) // pieces
    client, _ = await connect(side)
    for at in range(0, len(data), step):
        client.write(data[at : at + step])
        await asyncio.sleep(0.001)
    assert (await _refused(client, 431))["code"] == "HEAD_TOO_LARGE"


async def test_what_is_just_within(side: Side) -> None:
    """15 KB of head, 64 headers, HTTP/1.0 without a Host: all are answered."""
    own = [*BROWSER, *of_a_grab("within")]
    for data in (
        raw(headers=[*own, ("X", "y" * 15_000)]),
        raw(headers=[*own, *(("X", "y") for _ in range(64 - len(own)))]),
        raw(headers=of_a_grab("within"), version="HTTP/1.0"),
    ):
        client, _ = await connect(side)
        client.write(data)
        await until("an answer", lambda c=client: b'"serial"' in c.data)  # type: ignore[misc]
        client.abort()


async def test_blank_lines_are_no_reason_to_stay(side: Side) -> None:
    """Blank lines begin a request: one that never comes ends the connection in time, also after
    an answer, however they trickle."""
    client, _ = await connect(side)
    await _trickle(client, [b"\r\n"] * 60)
    await _refused(client, 408)
    for first in (grab("blank-1"), LIVEZ):
        client, _ = await connect(side)
        client.write(first)
        await until("an answer", lambda c=client: c.data.endswith(b"}"))  # type: ignore[misc]
        await _trickle(client, [b"\r\n"] * 60)
        assert client.closed
    client, _ = await connect(side)
    await _trickle(client, [b"\r\n", grab("blank-2"), *[b"\r\n", grab("blank-3")]])
    await asyncio.sleep(REQUEST_S * 2)
    assert client.data.count(b'"serial"') == 2
    client.abort()


async def test_a_client_that_does_not_read(side: Side) -> None:
    """Answers that nobody reads do not pile up: past the transport's own bound we read no more."""
    client, seen = await connect(side, receive_bytes=4096)
    assert client.transport is not None
    client.transport.pause_reading()
    data = grab("unread", browser=HOST).replace(b"Bearer v1", b"Bearer v0")
    unread_max = 0
    for _ in range(UNREAD):
        client.write(data)
        for _ in range(5):
            await asyncio.sleep(0)
        unread_max = max(unread_max, seen.transport.get_write_buffer_size())
        if not seen.is_reading:
            break
    reading, sent = seen.is_reading, client.sent
    client.abort()
    assert (reading, unread_max < UNREAD_BYTES_MAX) == (False, True), (unread_max, sent)
