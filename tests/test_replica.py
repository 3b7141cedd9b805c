"""replica.py against a real Valkey and a real replica: it says yes only to what is there."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import redis.asyncio as redis

from flashgrab.errors import StoreUnavailable
from flashgrab.replica import AWAY, WAIT_MS, Replica
from tests.gateway.serving import until
from tests.lua.server import Valkey, valkey
from tests.services.replica import Pair, primary, replicated

pytestmark = pytest.mark.anyio
TIMEOUT_MS = 2000


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with primary() as running:
        yield running


@pytest.fixture(scope="module")
async def pair(server: Valkey, anyio_backend: str) -> AsyncIterator[Pair]:
    async with replicated(server) as made:
        yield made


@dataclass
class Asking:
    """A started Replica, what it told of itself, and the run of its server."""

    replica: Replica
    run_id: str
    told: list[tuple[bool, str]] = field(default_factory=list)


@asynccontextmanager
async def asking(server: Valkey) -> AsyncIterator[Asking]:
    """Until the block ends; its first look is over."""
    told: list[tuple[bool, str]] = []
    replica = Replica(server.url, lambda is_away, why: told.append((is_away, why)))
    async with redis.Redis.from_url(server.url) as client:
        run_id = (await client.info("server"))["run_id"]
    replica.start()
    replica.start()
    try:
        await asyncio.wait_for(replica.judged.wait(), 5)
        yield Asking(replica, run_id, told)
    finally:
        await replica.stop()


async def test_yes_when_it_is_there(pair: Pair) -> None:
    """What was answered before the question is at the replica after the answer."""
    async with (
        asking(pair.primary) as asked,
        redis.Redis.from_url(pair.primary.url) as here,
        redis.Redis.from_url(pair.replica.url) as there,
    ):
        for n in range(50):
            await here.set("counted", n)
            await asked.replica.has_all(asked.run_id, TIMEOUT_MS)
            assert await there.get("counted") == b"%d" % n
        assert asked.told == [(False, "")]


async def test_no_while_it_lags_also_to_one_who_wrote_nothing(pair: Pair) -> None:
    """The trap of WAIT: its own connection wrote nothing here, and others' writes are not there.
    Whoever waits long enough hears yes when the link is back."""
    async with asking(pair.primary) as asked, redis.Redis.from_url(pair.primary.url) as here:
        with pair.stalled():
            await here.set("unseen", 1)
            with pytest.raises(StoreUnavailable):
                await asked.replica.has_all(asked.run_id, WAIT_MS // 4)
            patient = asked.replica.has_all(asked.run_id, 10_000)
            await until("it is away", lambda: asked.replica.is_away)
            assert not patient.done()
        await patient
        await until("it is back", lambda: not asked.replica.is_away)
    assert asked.told == [(False, ""), (True, AWAY), (False, "")]


async def test_no_at_once_while_there_is_none(server: Valkey, pair: Pair) -> None:
    """Known to be away, it keeps nobody waiting."""
    with primary() as alone:
        async with asking(alone) as asked:
            assert asked.told == [(True, AWAY)]
            begun = time.monotonic()
            with pytest.raises(StoreUnavailable):
                await asked.replica.has_all(asked.run_id, 10_000)
            assert time.monotonic() - begun < 5


async def test_what_wait_alone_would_say(pair: Pair) -> None:
    """The trap itself, in Valkey: yes to a connection that wrote nothing, whatever is missing."""
    async with redis.Redis.from_url(pair.primary.url) as here:
        with pair.stalled():
            await here.set("unseen", 3)
            async with redis.Redis.from_url(pair.primary.url) as fresh:
                assert await fresh.get("unseen") == b"3"
                assert await fresh.wait(1, 50) == 1


async def test_no_before_the_first_replica_has_its_copy() -> None:
    """A first replica that still loads what it was sent has nothing yet."""
    with primary() as own:
        async with asking(own) as asked, redis.Redis.from_url(own.url) as here:
            await here.mset({f"key{n}": n for n in range(20)})
            slow = ("--key-load-delay", "50000")
            with valkey("--replicaof", "127.0.0.1", str(own.port), *slow, tcp=True) as copying:
                await until("it is there", lambda: not asked.replica.is_away, 20)
                async with redis.Redis.from_url(copying.url) as there:
                    assert await there.get("key19") == b"19"


async def test_another_server_says_nothing_of_this_one(pair: Pair) -> None:
    """A question about another run is not answered by this one's replicas."""
    async with asking(pair.primary) as asked:
        with pytest.raises(StoreUnavailable, match="another server"):
            await asked.replica.has_all("another-run", TIMEOUT_MS)


async def test_many_at_once(pair: Pair) -> None:
    """All who ask meanwhile are answered, by few looks."""
    async with asking(pair.primary) as asked, redis.Redis.from_url(pair.primary.url) as here:
        before = (await here.info("commandstats"))["cmdstat_wait"]["calls"]
        waiting = [asked.replica.has_all(asked.run_id, TIMEOUT_MS) for _ in range(1000)]
        await asyncio.gather(*waiting)
        assert (await here.info("commandstats"))["cmdstat_wait"]["calls"] - before <= 3


async def test_a_reading_is_told_when_the_replica_has_it(pair: Pair) -> None:
    """read() gives what stands there, and nothing while that could still be lost."""
    async with asking(pair.primary) as asked, redis.Redis.from_url(pair.primary.url) as here:
        await here.hset("{h}", "anna", "1")
        assert await asked.replica.read(TIMEOUT_MS, "HGET", "{h}", "anna") == b"1"
        assert await asked.replica.read(TIMEOUT_MS, "HGET", "{h}", "bert") is None
        with pair.stalled():
            await here.hset("{h}", "bert", "2")
            with pytest.raises(StoreUnavailable):
                await asked.replica.read(WAIT_MS // 4, "HGET", "{h}", "bert")


async def test_the_server_goes_away(pair: Pair) -> None:
    """Redis stands still: for a moment that says nothing of its replicas, then they are away; and
    what is asked meanwhile ends in time."""
    with primary() as own:
        async with replicated(own), asking(own) as asked:
            assert not asked.replica.is_away
            own.freeze()
            try:
                with pytest.raises(StoreUnavailable):
                    await asked.replica.has_all(asked.run_id, 200)
                await until("it is away", lambda: asked.replica.is_away)
            finally:
                own.thaw()
            await until("it is back", lambda: not asked.replica.is_away)


async def test_stop_answers_who_still_waits(pair: Pair) -> None:
    """Nobody is left waiting for one that has stopped."""
    with pair.stalled():
        async with asking(pair.primary) as asked:
            async with redis.Redis.from_url(pair.primary.url) as here:
                await here.set("unseen", 2)
            waiting = asked.replica.has_all(asked.run_id, 60_000)
        with pytest.raises(StoreUnavailable):
            await waiting
