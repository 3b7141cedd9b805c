"""`flashgrab gateway --processes 2`: two processes on one port are one gateway to all outside."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from flashgrab.passes import PassKeys, issue
from flashgrab.store import Store
from gateway.serve import listen
from tests.gateway.crowd import Got
from tests.gateway.lane.counting import codes
from tests.gateway.pinned import Pinned, Pool, owners_of, pool
from tests.gateway.process import Running, environment, is_alive, publish, running
from tests.gateway.process import until as until_sync
from tests.gateway.serving import HOUR_MS, PASS_KEYS, until
from tests.lua.server import Client, Valkey, valkey
from tests.services.proxy import proxied

pytestmark = pytest.mark.anyio

PUSHED_S = 1.5
"""Promised: 100 ms. Below the 2 s after which a gateway asks anyway."""
UNPUSHED_S = 4.0
"""Promised: 1 s."""
COLD_S = 3.5
"""More than the 3 s after which a gateway without any Redis accepts, in order to say so."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(tcp=True) as started:
        yield started


@asynccontextmanager
async def two(server: Valkey, **changes: str) -> AsyncIterator[Running]:
    """A gateway of two processes that both serve."""
    env = environment(server, **changes)
    gateway = await asyncio.to_thread(Running, env, "--processes", "2")
    try:
        await until("ready", lambda: asyncio.to_thread(gateway.is_ready), 30)
        await until("both run", lambda: len(gateway.children) == 2, 30)
        yield gateway
    finally:
        await asyncio.to_thread(gateway.close)


@pytest.fixture(scope="module")
async def shared(server: Valkey, anyio_backend: str) -> AsyncIterator[Running]:
    """For tests that leave it as it was."""
    async with two(server) as gateway:
        yield gateway


@pytest.fixture
async def both(shared: Running, anyio_backend: str) -> AsyncIterator[list[Pinned]]:
    """A connection to each of its processes."""
    async with pool(shared) as opened:
        yield await opened.one_each()


def token(campaign_id: str, user: str) -> str:
    expires_ms = int(time.time() * 1000) + HOUR_MS
    return issue(PassKeys.parse(PASS_KEYS), campaign_id, user, "", expires_ms)


async def known(server: Valkey, campaign_id: str, to: list[Pinned], quota: int = 1000) -> None:
    """Publish a campaign, and wait until these processes know it."""
    publish(server, campaign_id, quota)
    for connection in to:
        await until("it is known", lambda c=connection: _has(c, campaign_id))  # type: ignore[misc]


async def _has(connection: Pinned, campaign_id: str) -> bool:
    request = f"GET /v1/campaigns/{campaign_id} HTTP/1.1\r\nHost: test\r\n\r\n"
    return (await connection.ask(request.encode())).status == 200


# -- starting, dying -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_a_process_accepts_nothing_before_it_is_warm(server: Valkey) -> None:
    """One of two is replaced, and the new one cannot read the campaigns yet: every connection is
    the other's, and answered; once it has read them, it takes its share."""
    async with (
        proxied(server.port) as proxy,
        two(server, REDIS_URL=proxy.url) as gateway,
        pool(gateway) as opened,
    ):
        await known(server, "warm", await opened.one_each())
        old = gateway.children
        proxy.stop_new_at(b"SMEMBERS")
        os.kill(old[0], signal.SIGKILL)
        await until("the new one reads", lambda: proxy.reached, 20)
        (new,) = set(gateway.children) - set(old)
        since = time.monotonic()
        while time.monotonic() < since + COLD_S:
            for connection in await opened.open(2):
                assert connection.pid == old[1]
                mine = token("warm", f"u{connection.port}")
                assert (await connection.grab("warm", mine)).status == 201
            await asyncio.sleep(0.05)
        assert not owners_of(int(gateway.url.rpartition(":")[2]), [new])
        proxy.release()
        await until("it accepts", lambda: _takes(opened, new), 20)
        answers = [await c.grab("warm", token("warm", f"n{c.port}")) for c in opened.of(new)]
        assert set(codes(answers)) == {"201"}


async def _takes(opened: Pool, pid: int) -> list[Pinned]:
    await opened.open(4)
    return opened.of(pid)


async def test_a_killed_process_takes_only_its_own_connections_along(server: Valkey) -> None:
    """While buyers grab over both, one process is killed: whoever was with the other sees no
    error, and a buyer who lost his connection gets by his key what he may have been granted."""
    async with two(server) as gateway, pool(gateway) as opened:
        one, other = await opened.one_each()
        await opened.open(40)
        await known(server, "killed", [one, other], 100_000)
        buyers = [_Buyer(connection, "killed") for connection in opened.all]
        theirs = [b for b in buyers if b.connection.pid == one.pid]
        ours = [b for b in buyers if b.connection.pid == other.pid]
        tasks = [asyncio.create_task(buyer.buy()) for buyer in buyers]
        await until("all are served", lambda: all(b.granted > 9 for b in buyers), 20)
        os.kill(one.pid, signal.SIGKILL)
        await until("their connections are gone", lambda: all(b.lost for b in theirs))
        before = {b: b.granted for b in ours}
        await until("the others go on", lambda: all(b.granted > before[b] + 9 for b in ours), 20)
        for buyer in buyers:
            buyer.stopped = True
        await asyncio.gather(*tasks)
        assert not any(b.lost for b in ours)
        for buyer in theirs:
            first = await other.grab("killed", token("killed", buyer.lost), "k")
            again = await other.grab("killed", token("killed", buyer.lost), "k")
            assert (first.status, again.status) in {(200, 200), (201, 200)}
            assert first.body["grab_id"] == again.body["grab_id"]
        await until("it is replaced", lambda: _replaced(gateway, one.pid), 20)
        (new,) = set(gateway.children) - {other.pid}
        await until("the new one accepts", lambda: _takes(opened, new), 20)


class _Buyer:
    """Grabs for one user after the other; `lost` is the user whose answer did not come."""

    def __init__(self, connection: Pinned, campaign_id: str) -> None:
        self.connection = connection
        self._campaign_id = campaign_id
        self.granted = 0
        self.lost = ""
        self.stopped = False

    async def buy(self) -> None:
        while not self.stopped:
            user = f"u{self.connection.port}-{self.granted}"
            mine = token(self._campaign_id, user)
            try:
                got = await self.connection.grab(self._campaign_id, mine, "k")
            except (OSError, asyncio.IncompleteReadError):
                self.lost = user
                return
            assert got.status == 201, got
            self.granted += 1


def _replaced(gateway: Running, old: int) -> bool:
    return len(gateway.children) == 2 and old not in gateway.children


# -- limits and memory ---------------------------------------------------------------------------


async def test_a_user_is_one_user_at_all_processes(
    server: Valkey, shared: Running, both: list[Pinned]
) -> None:
    """What one process granted, the other replays by the key and refuses for any other key, each
    naming the same grab; the second time, too, when both answer from memory."""
    one, other = both
    await known(server, "same", both)
    mine = token("same", "alice")
    won = await one.grab("same", mine, "k")
    assert won.status == 201
    for connection in (other, one) * 3:
        again = await connection.grab("same", mine, "k")
        assert (again.status, again.body["grab_id"]) == (200, won.body["grab_id"])
        for key in ("another", ""):
            refused = await connection.grab("same", mine, key)
            assert refused.body["code"] == "USER_LIMIT"
            assert refused.body["grab_ids"] == [won.body["grab_id"]]


@pytest.mark.parametrize("keys, codes_wanted", [(("k", "k"), "200"), (("a", "b"), "USER_LIMIT")])
async def test_two_processes_asked_at_once_grant_once(
    server: Valkey, shared: Running, both: list[Pinned], keys: tuple[str, str], codes_wanted: str
) -> None:
    """The same user at the same moment at both: one grant. With one key both name it."""
    campaign_id = f"once-{codes_wanted.lower()}"
    await known(server, campaign_id, both)
    for n in range(100):
        mine = token(campaign_id, f"u{n}")
        pairs = zip(both, keys, strict=True)
        answers = await asyncio.gather(*(c.grab(campaign_id, mine, key) for c, key in pairs))
        assert codes(answers) == {"201": 1, codes_wanted: 1}
        assert len({str(_named(answer)) for answer in answers}) == 1


def _named(answer: Got) -> Any:
    return answer.body.get("grab_ids", [answer.body.get("grab_id")])


@pytest.mark.parametrize("push", [True, False], ids=["pushed", "push lost"])
async def test_a_restock_ends_what_every_process_remembers(
    server: Valkey, shared: Running, both: list[Pinned], push: bool
) -> None:
    """Both refuse SOLD_OUT without asking Redis; after a restock both grant, and the winners of
    before are known to both all the while."""
    campaign_id = f"restock-{push}".lower()
    await known(server, campaign_id, both, quota=2)
    first = await both[0].grab(campaign_id, token(campaign_id, "w0"), "k")
    second = await both[1].grab(campaign_id, token(campaign_id, "w1"), "k")
    assert (first.status, second.status) == (201, 201)
    redis = Client(server.path)
    try:
        for connection in both:
            await until("remembered", lambda c=connection: _refuses(c, redis, campaign_id))  # type: ignore[misc]
    finally:
        redis.close()
    async with Store(server.url) as store:
        target = {"epoch": 1, "version": 2, "operation": "op-2", "status": "PUBLISHED"}
        assert await store.apply(campaign_id, quotas=[4], **target) == 0  # type: ignore[arg-type]
        if push:
            await store.announce(campaign_id)
    for n, connection in enumerate(both):
        within_s = PUSHED_S if push else UNPUSHED_S
        for owner, won in (("w0", first), ("w1", second)):
            again = await connection.grab(campaign_id, token(campaign_id, owner), "k")
            assert (again.status, again.body["grab_id"]) == (200, won.body["grab_id"])
        await until("granted", lambda c=connection, n=n: _wins(c, campaign_id, n), within_s)  # type: ignore[misc]
    for connection in both:
        await until("sold out again", lambda c=connection: _sold_out(c, campaign_id))  # type: ignore[misc]


_turns = iter(range(10**9))


async def _stranger(connection: Pinned, campaign_id: str) -> Got:
    return await connection.grab(campaign_id, token(campaign_id, f"s{next(_turns)}"), "k")


async def _sold_out(connection: Pinned, campaign_id: str) -> bool:
    return bool((await _stranger(connection, campaign_id)).body.get("code") == "SOLD_OUT")


async def _refuses(connection: Pinned, redis: Client, campaign_id: str) -> bool:
    """Whether strangers are refused without a script call."""
    before = _scripts(redis)
    assert await _sold_out(connection, campaign_id)
    return _scripts(redis) == before


def _scripts(redis: Client) -> str:
    lines = str(redis.call("INFO", "commandstats")).split("\r\n")
    (line,) = [x.split(",")[0] for x in lines if x.startswith("cmdstat_evalsha:")]
    return line


async def _wins(connection: Pinned, campaign_id: str, number: int) -> bool:
    user = f"n{number}-{next(_turns)}"
    return (await connection.grab(campaign_id, token(campaign_id, user), "k")).status == 201


# -- metrics, and the end ------------------------------------------------------------------------


async def test_metrics_are_the_sum_of_all_processes(
    server: Valkey, shared: Running, both: list[Pinned]
) -> None:
    """What each has counted comes together at the one listener: grants, refusals from memory,
    histograms."""
    await known(server, "counted", both)
    shares = (7, 5)
    for n, (connection, share) in enumerate(zip(both, shares, strict=True)):
        for turn in range(share):
            mine = token("counted", f"u{n}-{turn}")
            assert (await connection.grab("counted", mine, "k")).status == 201
        for _ in range(share + 1):  # of these the first asks the script
            refused = await connection.grab("counted", token("counted", f"u{n}-0"), "b")
            assert refused.body["code"] == "USER_LIMIT"
    total = sum(shares)

    async def counted(name: str, **labels: str) -> float:
        return await asyncio.to_thread(shared.counted, name, **labels)

    async def all_counted() -> bool:
        grants = await counted("flashgrab_grabs_total", campaign="counted", outcome="GRANTED")
        limits = await counted("flashgrab_grabs_total", campaign="counted", outcome="USER_LIMIT")
        assert grants <= total
        assert limits <= total + 2
        return (grants, limits) == (total, total + 2)

    # a reason that no test of these processes brings about: theirs may be counted only now
    before = await counted("flashgrab_refused_locally_total", reason="OFFLINE")
    await until("all are counted", all_counted)
    assert await counted("flashgrab_refused_locally_total", reason="USER_LIMIT") >= total
    assert await counted("flashgrab_refused_locally_total", reason="OFFLINE") == before
    asked = await counted("flashgrab_grab_seconds_count")
    batches = await counted("flashgrab_batch_size_sum")
    assert asked == batches
    assert await counted("flashgrab_inflight") == 0


@pytest.mark.slow
def test_two_processes_are_replaced_and_end_with_their_parent(server: Valkey) -> None:
    """Two serve on one port. One is killed: another takes its place, what it had counted stays
    in the sum, and the one metrics listener never goes back. The parent is killed: no child is
    left, and the port is free."""
    publish(server, "pair")
    env = environment(server)
    with running(env, "--processes", "2") as gateway:
        first = until_sync("two children", lambda: len(gateway.children) == 2 and gateway.children)
        sent = [gateway.grab("pair", f"u{n}") for n in range(40)]
        assert {answer.status_code for answer in sent} == {201}

        def granted() -> float:
            return gateway.counted("flashgrab_grabs_total", campaign="pair", outcome="GRANTED")

        until_sync("all are counted", lambda: granted() == 40)
        os.kill(first[0], signal.SIGKILL)

        def replaced() -> bool:
            assert granted() == 40
            now = gateway.children
            return len(now) == 2 and first[0] not in now

        until_sync("it is replaced", replaced)
        until_sync("it serves", gateway.is_ready)
        for n in range(40, 60):
            assert gateway.grab("pair", f"u{n}").status_code == 201
        until_sync("these too", lambda: granted() == 60)
        assert gateway.counted("flashgrab_grab_seconds_count") == 60
        assert gateway.counted("flashgrab_inflight") == 0
        assert gateway.counted("flashgrab_left", campaign="pair") <= 1000
        assert "process-died" in gateway.said

        children = gateway.children
        assert len(children) == 2
        gateway.process.kill()
        gateway.process.wait()
        until_sync("no child is left", lambda: not any(map(is_alive, children)))
        until_sync("the port is free", lambda: can_listen(int(env["FLASHGRAB_PORT"])))


def can_listen(port: int) -> bool:
    """A process that is dead closes its sockets when the last of its threads is gone, too."""
    try:
        listen("127.0.0.1", port).close()
    except OSError:
        return False
    return True
