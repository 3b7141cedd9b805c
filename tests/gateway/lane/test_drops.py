"""Clients that disappear at any moment: nobody hears another's answer, and nothing stays behind."""

import asyncio
import gc
import json
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import psutil
import pytest

from flashgrab import keys
from flashgrab.clock import SystemClock
from gateway.hardened import Hardened
from tests.gateway.crowd import Sent, crowd
from tests.gateway.lane.conversation import Client
from tests.gateway.lane.plain import grab
from tests.gateway.lane.sides import LANE, TWIN, Seen, Side, one_side
from tests.gateway.lane.world import HOLDERS, token
from tests.gateway.serving import until
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

WAYS = ("stays", "stays", "cut", "at once", "later", "later", "first", "eof")
"""stays until it is answered; goes inside its request, behind it, some time later, after the first
of two answers, or shuts its sending side."""
WORKERS = 200
WAIT_MS_MAX = 20.0
ANSWER_S = 20
VANISHED_MIN = 100
ASKED_AGAIN = 500
SEED = 10

_BODY = re.compile(rb"HTTP/1\.1 (\d{3}) [^{]*(\{[^}]*\})")


@pytest.fixture(params=[(TWIN, 1_000), (LANE, 10_000)], ids=["twin", "lane"])
async def crowded(
    request: pytest.FixtureRequest, two_servers: tuple[Valkey, Valkey]
) -> AsyncIterator[tuple[Side, int]]:
    kind: type[Hardened]
    kind, connections = request.param
    async with one_side(kind, two_servers[0], SystemClock().now_ms(), SystemClock()) as side:
        yield side, connections


@dataclass
class Tally:
    """What the clients read: user → serials, and how they ended."""

    heard: dict[str, list[int]] = field(default_factory=dict)
    ways: Counter[str] = field(default_factory=Counter)

    def note(self, user: str, data: bytes) -> None:
        for status, body in _BODY.findall(data):
            assert status in {b"200", b"201"}, data
            self.heard.setdefault(user, []).append(json.loads(body)["serial"])


class Asking(Client):
    """A client that can be waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if _BODY.search(self.data):
            self.heard.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.heard.set()


async def _one(side: Side, user: str, chance: random.Random, tally: Tally) -> None:
    """One connection: asks, and goes away at some moment, in some way."""
    loop = asyncio.get_running_loop()
    way = chance.choice(WAYS)
    tally.ways[way] += 1
    data = grab(user)
    _, client = await loop.create_connection(Asking, "127.0.0.1", side.port)
    assert client.transport is not None
    if way == "cut":
        client.write(data[: chance.randrange(len(data))])
    elif chance.random() < 0.3:
        at = chance.randrange(len(data))
        client.write(data[:at])
        await asyncio.sleep(0)
        client.write(data[at:])
    else:
        client.write(data * (2 if way == "first" else 1))
    if way in ("stays", "first"):
        async with asyncio.timeout(ANSWER_S):
            await client.heard.wait()
        assert not client.closed
    elif way == "eof":
        client.transport.write_eof()
    elif way != "at once":
        await asyncio.sleep(chance.random() * WAIT_MS_MAX / 1000)
    tally.note(user, bytes(client.data))
    if chance.random() < 0.5:
        client.transport.abort()
    else:
        client.transport.close()


async def _storm(side: Side, connections: int) -> Tally:
    tally, names = Tally(), iter(range(connections))

    async def work() -> None:
        for number in names:
            await _one(side, f"drop-{number}", random.Random(SEED * number), tally)

    async with asyncio.TaskGroup() as group:
        for _ in range(WORKERS):
            group.create_task(work())
    return tally


def _left_behind(side: Side) -> list[Any]:
    gc.collect()
    return [found for found in gc.get_objects() if isinstance(found, Seen)]


async def test_clients_that_disappear(crowded: tuple[Side, int]) -> None:
    """Each answer read is its user's own grab, nothing leaks, and the grabs of the vanished are
    found by their keys."""
    side, connections = crowded
    await crowd(side.port, [Sent("open", token("open", "first"), "k")], 1)
    await until("nobody is connected", lambda: not side.served.server.server_state.connections)
    process = psutil.Process()
    before = process.num_fds(), len(asyncio.all_tasks())

    tally = await _storm(side, connections)
    await until("all are answered", lambda: side.is_idle, 10)
    await until("nobody is connected", lambda: not side.served.server.server_state.connections)
    assert (side.waiting, side.inflight) == (0, 0)
    side.made.clear()
    await until("no connection is kept", lambda: not _left_behind(side), 10)
    await until("no file is kept", lambda: process.num_fds() <= before[0], 10)
    await until("no task is kept", lambda: len(asyncio.all_tasks()) <= before[1], 10)

    flat = side.world.redis.call("HGETALL", keys.holders("open"))
    entries = dict(zip(flat[::2], flat[1::2], strict=True))
    held = {user: entry.split(",") for user, entry in entries.items() if user not in HOLDERS}
    serials = [int(entry[0]) for entry in held.values()]
    assert sorted(serials) == list(range(4, 4 + len(serials)))
    for user, heard in tally.heard.items():
        assert set(heard) == {int(held[user][0])}, user
    for user, entry in held.items():
        assert entry[4] == (f"key-{user};" if user != "first" else "k;")

    assert set(tally.ways) == set(WAYS)
    vanished = sorted(set(held) - set(tally.heard) - {"first"})
    assert len(vanished) >= min(VANISHED_MIN, connections // 50)
    again = vanished[:ASKED_AGAIN]
    sent = [Sent("open", token("open", user), f"key-{user}") for user in again]
    for user, got in zip(again, await crowd(side.port, sent, 20), strict=True):
        assert (got.status, got.body["serial"]) == (200, int(held[user][0]))
