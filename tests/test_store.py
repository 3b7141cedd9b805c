"""store.py against a real Valkey: what is written is read back, and what breaks has its name."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from flashgrab import keys, scripts
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.events import OutboxEntry, TornEntry
from flashgrab.model import Round
from flashgrab.state import Books, CampaignState, GatewayReport, OutboxStanding, RoundState
from flashgrab.store import Store
from tests.gateway.serving import until
from tests.lua.seeds import ID, OUTBOX, entry
from tests.lua.server import Client, Valkey, valkey

ROUNDS = [Round(1, 1000, 2000, 10), Round(2, 3000, 4000, 20)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with valkey(tcp=True) as running:
        yield running


@pytest.fixture
def redis(server: Valkey) -> Iterator[Client]:
    client = Client(server.path)
    client.call("FLUSHALL")
    yield client
    client.close()


@pytest.fixture
async def store(server: Valkey, redis: Client) -> AsyncIterator[Store]:
    async with Store(server.url) as store:
        yield store


async def publish(store: Store, campaign_id: str = ID) -> bool:
    return await store.publish(
        campaign_id,
        run="run-1",
        version=1,
        operation="op-1",
        definition={"name": "é"},
        per_user=2,
        per_device=3,
        rounds=ROUNDS,
    )


async def test_server(store: Store, redis: Client) -> None:
    """The run_id and the clock are the server's."""
    assert f"run_id:{await store.run_id()}" in redis.call("INFO", "server")
    assert abs(await store.now_ms() - redis.now_ms()) < 5000


async def test_publish_and_read(store: Store) -> None:
    """A campaign is read as it was published, and published once."""
    assert await store.read(ID) is None
    assert await publish(store) is True
    assert await store.read(ID) == CampaignState(
        campaign_id=ID, schema=scripts.SCHEMA, epoch=1, run="run-1", generation=1, version=1,
        status="PUBLISHED", definition={"name": "é"}, per_user=2, per_device=3, serial=0, seq=0,
        watermark=0, holes="",
        rounds=(
            RoundState(1, 1000, 2000, 10, 10, 0, 0),
            RoundState(2, 3000, 4000, 20, 20, 0, 0),
        ),
    )  # fmt: skip
    assert await publish(store) is False


async def test_read_without_a_round(store: Store, redis: Client) -> None:
    """A campaign of which a round is missing is missing."""
    await publish(store)
    redis.call("DEL", keys.round_(ID, 2))
    assert await store.read(ID) is None


async def test_script_calls_are_timed(server: Valkey, redis: Client) -> None:
    """Each by its script's name, also where the server has to learn it first."""
    took: list[tuple[str, float]] = []
    async with Store(server.url, took=lambda *call: took.append(call)) as store:
        assert await publish(store)
        redis.call("SCRIPT", "FLUSH")
        await store.settle(ID, 1, 0, "")
        await store.books(ID, 1, 0)
    assert [name for name, _ in took] == ["publish", "settle", "books"]
    assert all(0 < seconds < 60 for _, seconds in took)


async def test_changes_of_a_campaign(store: Store) -> None:
    """apply, confirm and settle return the scripts' codes and do what they say."""
    await publish(store)
    target = {"operation": "op-2", "status": "PAUSED", "quotas": [15, 20]}
    assert await store.apply(ID, epoch=1, version=2, **target) == 0  # type: ignore[arg-type]
    assert await store.apply(ID, epoch=1, version=2, **target) == 1  # type: ignore[arg-type]
    assert await store.confirm(ID, 1, 0, "run-2") == 0
    assert await store.confirm(ID, 1, 1, "run-3") == 3
    assert await store.settle(ID, 1, 0, "1-2") == 0
    assert await store.settle(ID, 2, 0, "") == 2
    state = await store.read(ID)
    assert state is not None
    assert (state.status, state.generation, state.run, state.holes) == ("PAUSED", 2, "run-2", "1-2")
    assert [r.left for r in state.rounds] == [15, 20]


async def test_outbox(store: Store, redis: Client) -> None:
    """Entries come in order, from the one that holds or follows a seq, at most so many."""
    rows = [entry(1, 3, "x"), entry(4, 4, "x"), entry(5, 8, "x")]
    redis.seed({OUTBOX: rows})
    all_ = [
        OutboxEntry(1, 3, 1, 1, "x"),
        OutboxEntry(4, 4, 1, 1, "x"),
        OutboxEntry(5, 8, 1, 1, "x"),
    ]
    assert await store.outbox(ID, 0) == all_
    assert await store.outbox(ID, 2) == all_
    assert await store.outbox(ID, 4) == all_[1:]
    assert await store.outbox(ID, 1, to_seq=4) == all_[:2]
    assert await store.outbox(ID, 0, entries_max=1) == all_[:1]
    assert await store.outbox_length(ID) == 3
    assert await store.outbox("none", 0) == []


async def test_torn_entry_does_not_hide_the_others(store: Store, redis: Client) -> None:
    """An entry of another form, or with bytes that are no text, is named; the rest is read."""
    redis.seed({OUTBOX: [entry(1, 1, "x")]})
    redis.call("XADD", OUTBOX, "2-0", "something", "else")
    redis.call("XADD", OUTBOX, "3-5", "first", 3, "epoch", 1, "at_ms", 1, "facts", "x")
    redis.call("XADD", OUTBOX, "4-0", "first", 4, "epoch", 1, "at_ms", 1, "facts", b"\xff\xfe")
    good, torn, odd_id, bytes_ = await store.outbox(ID, 0)
    assert good == OutboxEntry(1, 1, 1, 1, "x")
    assert isinstance(torn, TornEntry)
    assert isinstance(odd_id, TornEntry)
    assert (torn.entry_id, torn.last_seq) == ("2-0", 2)
    assert isinstance(bytes_, OutboxEntry)
    with pytest.raises(ValueError, match="unpack"):
        list(bytes_.facts(ID))


async def test_outbox_wait(store: Store, redis: Client) -> None:
    """New entries of several campaigns, each after its own id; nothing where none comes in time."""
    redis.seed({OUTBOX: [entry(1, 3, "x"), entry(4, 4, "x")]})
    found = await store.outbox_wait({ID: "3-0", "other": "0"}, 10, 50)
    assert found == {ID: [OutboxEntry(4, 4, 1, 1, "x")]}
    assert await store.outbox_wait({ID: "4-0"}, 10, 20) == {}
    waiting = asyncio.create_task(store.outbox_wait({"other": "0", ID: "4-0"}, 10, 4000))
    await asyncio.sleep(0)
    redis.call(
        "XADD", keys.outbox("other"), "1-0", "first", 1, "epoch", 1, "at_ms", 1, "facts", "x"
    )
    assert await waiting == {"other": [OutboxEntry(1, 1, 1, 1, "x")]}


async def test_books_and_standings(store: Store, redis: Client) -> None:
    """The counters of one moment; a campaign that is missing is left out."""
    await publish(store)
    redis.call("HSET", keys.campaign(ID), "seq", 4, "serial", 3, "watermark", 1, "holes", "2-3")
    redis.call("XADD", OUTBOX, "4-0", "first", 2, "epoch", 1, "at_ms", 9, "facts", "x")
    rows = ((10, 10, 0, 0), (20, 20, 0, 0))
    waiting = OutboxEntry(2, 4, 1, 9, "x")
    assert await store.books(ID, 2, 1) == Books(1, 4, 3, 1, rows, (waiting,))
    assert await store.books(ID, 2, 4) == Books(1, 4, 3, 1, rows, ())
    assert await store.books("none", 2, 4) is None
    assert await store.standings([ID, "none"]) == {
        ID: OutboxStanding(
            epoch=1, run="run-1", generation=1, seq=4, watermark=1, holes="2-3", entries=1
        )
    }
    assert await store.standings([]) == {}


async def test_a_damaged_campaign_hides_no_other(store: Store, redis: Client) -> None:
    """Its standing is left out, whatever is damaged; the others are told."""
    await publish(store)
    redis.call("HSET", keys.campaign("part"), "epoch", 1)
    redis.call("HSET", keys.campaign("word"), "epoch", "one", "run", "r", "generation", 1)
    redis.call("SET", keys.campaign("type"), "x")
    assert list(await store.standings(["part", "type", ID, "word"])) == [ID]


async def test_holders(store: Store, redis: Client) -> None:
    """Every holder is found; one user, or several in their order, by name."""
    held = {f"u{n}": f"{n},{n},1,g,k;" for n in range(3000)}
    redis.seed({keys.holders(ID): held})
    assert {user: text async for user, text in store.holders(ID)} == held
    assert await store.holder(ID, "u7") == "7,7,1,g,k;"
    assert await store.holder(ID, "nobody") == ""
    assert await store.holders_of(ID, ["u2", "nobody", "u1"]) == ["2,2,1,g,k;", "", "1,1,1,g,k;"]
    assert await store.holders_of(ID, []) == []
    assert [pair async for pair in store.holders("none")] == []


async def test_gateways(store: Store, redis: Client) -> None:
    """Reports are read back, also those of a newer release with more in them; and forgotten."""
    report = GatewayReport("run-1", 123, {ID: 7})
    await store.report_gateway("g1", report)
    redis.call("HSET", keys.GATEWAYS, "g2", '{"run":"r","at_ms":1,"floors":{},"version":"9"}')
    assert await store.gateways() == {"g1": report, "g2": GatewayReport("r", 1, {})}
    await store.forget_gateways([])
    await store.forget_gateways(["g1"])
    assert list(await store.gateways()) == ["g2"]


async def test_registry_and_push(store: Store, server: Valkey, redis: Client) -> None:
    """A registered campaign is in the registry, and whoever listens is told of it."""
    heard = store.changes()
    first = asyncio.ensure_future(anext(heard))
    await until("subscribed", lambda: redis.call("PUBSUB", "NUMSUB", keys.CHANGES)[1])
    await store.register(ID)
    assert await asyncio.wait_for(first, 5) == ID
    assert await store.registry() == {ID}
    await store.announce("other")
    assert await asyncio.wait_for(anext(heard), 5) == "other"
    second = asyncio.ensure_future(anext(heard))
    redis.call("CLIENT", "KILL", "TYPE", "pubsub")
    with pytest.raises(StoreUnavailable):
        await asyncio.wait_for(second, 5)


async def test_scripts_flushed(store: Store, redis: Client) -> None:
    """A call after SCRIPT FLUSH loads its script and is answered."""
    await publish(store)
    redis.call("SCRIPT", "FLUSH")
    assert await store.confirm(ID, 1, 0, "run-2") == 0


async def test_error_reply_is_refused(store: Store, redis: Client) -> None:
    """An error of the server is StoreRefused, and not retriable."""
    redis.call("SET", keys.campaign(ID), "not a hash")
    with pytest.raises(StoreRefused, match="WRONGTYPE") as refusal:
        await store.read(ID)
    assert not refusal.value.retriable
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        await store.confirm(ID, 1, 0, "run-2")


async def test_silent_server_is_unavailable(server: Valkey, redis: Client) -> None:
    """A server that does not answer in time is StoreUnavailable, retriable; later it works."""
    async with Store(server.url, timeout_ms=100) as store:
        await store.now_ms()
        redis.call("CLIENT", "PAUSE", 10_000, "WRITE")
        with pytest.raises(StoreUnavailable) as failure:
            await store.register(ID)
        assert failure.value.retriable
        redis.call("CLIENT", "UNPAUSE")
        assert await store.now_ms() > 0


async def test_no_server_is_unavailable() -> None:
    """Without a server every way in raises StoreUnavailable."""
    async with Store("redis://127.0.0.1:1/0", timeout_ms=500) as store:
        with pytest.raises(StoreUnavailable):
            await store.run_id()
        with pytest.raises(StoreUnavailable):
            await store.standings([ID])
        with pytest.raises(StoreUnavailable):
            await store.confirm(ID, 1, 0, "run-1")
        with pytest.raises(StoreUnavailable):
            await anext(store.changes())


async def test_command_whose_reply_is_lost_runs_once() -> None:
    """The client repeats nothing by itself: only the caller knows whether it may."""
    received: list[bytes] = []

    async def loses(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            received.append(data)
            if b"PUBLISH" in data or b"EVALSHA" in data:
                break
            writer.write(b"+OK\r\n" * data.count(b"*"))
        writer.close()

    peer = await asyncio.start_server(loses, "127.0.0.1", 0)
    port = peer.sockets[0].getsockname()[1]
    async with Store(f"redis://127.0.0.1:{port}/0", timeout_ms=1000) as store:
        with pytest.raises(StoreUnavailable):
            await store.announce(ID)
        with pytest.raises(StoreUnavailable):
            await store.confirm(ID, 1, 0, "run-1")
    peer.close()
    assert sum(b"PUBLISH" in data for data in received) == 1
    assert sum(b"EVALSHA" in data for data in received) == 1
