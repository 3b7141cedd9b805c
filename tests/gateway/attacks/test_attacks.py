"""A real gateway under bad traffic: it is refused or closed, costs bounded memory, and the good
traffic beside it is served. How much slower: docs/security.md, by `beside.py`."""

import asyncio
import re
import resource
from collections.abc import Iterator
from itertools import cycle, islice

import psutil
import pytest

from gateway.serve import open_files
from tests.gateway.attacks.generator import Attack, Bad, Good, abort, begin, until_closed
from tests.gateway.attacks.shapes import JUNK, MB, SLOW, SMUGGLED, SMUGGLING
from tests.gateway.process import Running, environment, publish, running, until
from tests.lua.server import Valkey

CAMPAIGN = "attacked"
SOCKETS = 2000
WITHIN_S = 15.0
"""It is five seconds; a machine that does other things at the same time has longer."""
GROWTH_MB_MAX = 100


@pytest.fixture(scope="module")
def gateway(redis_server: Valkey) -> Iterator[Running]:
    """With the settings that it has by default."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    open_files()
    publish(redis_server, CAMPAIGN, quota=100_000)
    try:
        with running(environment(redis_server)) as process:
            until("it knows the campaign", lambda: process.knows(CAMPAIGN))
            yield process
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def rss_mb(gateway: Running) -> float:
    return float(psutil.Process(gateway.process.pid).memory_info().rss / MB)


async def under(gateway: Running, attacks: list[Attack], prefix: str) -> tuple[list[Bad], Good]:
    """All at once, with good traffic from before they begin until they are closed."""
    port = int(gateway.url.rpartition(":")[2])
    good, stop = Good(port, CAMPAIGN, prefix), asyncio.Event()
    served = asyncio.create_task(good.run(stop))
    made: list[Bad] = []
    try:
        made = await begin(port, attacks)
        answered = len(good.statuses)
        left = await until_closed(made, WITHIN_S)
        assert [bad.attack.name for bad in left] == []
        assert len(good.statuses) > answered, "nobody was served meanwhile"
    finally:
        stop.set()
        abort(made)
        await served
    return made, good


def test_two_thousand_that_say_little(gateway: Running) -> None:
    """Idle, slow and trickling connections are closed; their memory is bounded; buyers are served
    all the while; and nothing of it is in the log."""
    before_mb, said = rss_mb(gateway), gateway.said
    attacks = list(islice(cycle(SLOW), SOCKETS))
    made, good = asyncio.run(under(gateway, attacks, "slow"))
    assert len(made) == SOCKETS
    assert set(good.statuses) == {201}
    assert rss_mb(gateway) - before_mb < GROWTH_MB_MAX
    answers = {bytes(bad.heard[:12]) for bad in made if bad.heard}
    assert answers <= {b"HTTP/1.1 408", b"HTTP/1.1 503"}
    assert b"HTTP/1.1 408" in answers
    until("they are gone", lambda: gateway.counted("flashgrab_connections") <= 1)
    assert gateway.said == said


def test_junk_and_what_is_too_large(gateway: Running) -> None:
    """Other protocols, heads of a megabyte, bodies of a hundred: refused by what they send, long
    before all of it is sent."""
    before_mb, said = rss_mb(gateway), gateway.said
    made, good = asyncio.run(under(gateway, JUNK * 3, "junk"))
    assert set(good.statuses) == {201}
    assert rss_mb(gateway) - before_mb < GROWTH_MB_MAX
    for bad in made:
        assert bad.sent < 100 * MB, bad.attack.name
        statuses = re.findall(rb"HTTP/1\.1 (\d{3}) ", bytes(bad.heard))
        assert set(statuses[:-1]) <= {b"200"}, bad.attack.name  # of what was whole before the junk
        assert not statuses or statuses[-1] in {b"400", b"408", b"413", b"414", b"431"}
    assert gateway.said == said


@pytest.mark.parametrize("shape", SMUGGLING)
def test_smuggling(gateway: Running, shape: str) -> None:
    """One answer, a refusal, and the connection is closed: what follows is no request."""
    port = int(gateway.url.rpartition(":")[2])

    async def send() -> bytes:
        (bad,) = await begin(port, [Attack(shape, SMUGGLING[shape])])
        left = await until_closed([bad], WITHIN_S)
        abort(left)
        assert not left, "it is still open"
        return bytes(bad.heard)

    heard = asyncio.run(send())
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", heard) in ([b"400"], [b"413"])
    assert b"\r\nserver:" not in heard.lower()
    assert b"Traceback" not in heard


def test_the_control(gateway: Running) -> None:
    """What is smuggled is answered 200 where it is a request of its own; and the connection that
    has asked stays open."""
    port = int(gateway.url.rpartition(":")[2])

    async def send() -> tuple[bytes, int]:
        made = await begin(port, [Attack("two", SMUGGLED * 2)])
        left = await until_closed(made, 0.7)
        abort(left)
        return bytes(made[0].heard), len(left)

    heard, left = asyncio.run(send())
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", heard) == [b"200", b"200"]
    assert left == 1
