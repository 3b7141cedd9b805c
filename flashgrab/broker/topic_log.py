"""A topic read by offset, outside of any group: what is at an offset, where the log ends."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, NamedTuple

from aiokafka import errors as kafka
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords

from flashgrab.broker.calls import RETRY_MS, UnknownTopic, bounded
from flashgrab.broker.records import Received

# After a change of leader the high watermark may lag behind the log for a moment. With one replica
# there is no such moment.
HIGHWATER_GRACE_MS = 1_000
READ_BYTES = 65_536  # of each partition; the broker sends at least one whole batch
CLOSE_S = 1.0
READ_WAIT_MS = 20  # the embedded broker leaves out what it has not looked up by then
_EARLIEST, _LATEST = -2, -1  # the times that ListOffsets gives a meaning of their own
_READ_UNCOMMITTED = 0


class Partition(NamedTuple):
    """Where a partition lives."""

    leader: int  # the broker's id, -1 while there is none
    replicas: int


class _Answer(NamedTuple):
    error: Any  # a class of aiokafka.errors
    highwater: int
    data: bytes  # decoded only where records are wanted: a whole batch is up to 900 kB


class TopicLog:
    """Reads over a connection of its own, made at the first call and again after a failure.

    Calls take turns: one that fails closes the connection, which no other may be using then.

    Every method raises BrokerUnavailable past `deadline_ms`, and UnknownTopic.
    """

    def __init__(self, bootstrap: str, topic: str, *, deadline_ms: int = 5_000) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._deadline_ms = deadline_ms
        self._client: Any = None
        self._turn = asyncio.Lock()

    async def partitions(self) -> dict[int, Partition]:
        """Every partition of the topic."""
        async with self._calling("partitions") as client:
            return await self._partitions(client)

    async def beginning_offsets(self) -> dict[int, int]:
        """The first offset still there, of every partition."""
        async with self._calling("first offsets") as client:
            return await self._list_offsets(client, _EARLIEST)

    async def end_offsets(self) -> dict[int, int]:
        """The offset that the next record will get, of every partition.

        The embedded broker lists the beginning of the last batch, plus one, instead of its end;
        a read from there tells the rest.
        """
        async with self._calling("end offsets") as client:
            ends = await self._list_offsets(client, _LATEST)
            left = dict(ends)
            while left:
                partitions = await self._partitions(client)
                for p, answer in (await self._read(client, partitions, left)).items():
                    ends[p] = max(ends[p], answer.highwater)
                    del left[p]
                if left:
                    await asyncio.sleep(RETRY_MS / 1000)
            return ends

    async def records_at(self, offsets: Mapping[int, int]) -> dict[int, Received | None]:
        """For partition → offset, the record there; None when the log holds none."""
        found: dict[int, Received | None] = dict.fromkeys(offsets)
        async with self._calling("records") as client:
            loop = asyncio.get_running_loop()
            grace_ends = loop.time() + HIGHWATER_GRACE_MS / 1000
            wanted = {p: offset for p, offset in offsets.items() if offset >= 0}
            while True:
                partitions = await self._partitions(client)
                wanted = {p: offset for p, offset in wanted.items() if p in partitions}
                if not wanted:
                    return found
                answers = await self._read(client, partitions, wanted)
                for p, answer in answers.items():
                    patient = partitions[p].replicas > 1 and loop.time() < grace_ends
                    settled, found[p] = _record_at(answer, wanted[p], patient=patient)
                    if settled:
                        del wanted[p]
                if wanted:
                    await asyncio.sleep(RETRY_MS / 1000)

    async def stop(self) -> None:
        """Close the connection. Another call would open it again."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(kafka.KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await client.close()

    @contextlib.asynccontextmanager
    async def _calling(self, what: str) -> AsyncIterator[Any]:
        reading = f"reading {what} of {self._topic}"
        async with self._turn, bounded(self._deadline_ms, reading):
            try:
                if self._client is None:
                    self._client = AIOKafkaClient(
                        bootstrap_servers=self._bootstrap, request_timeout_ms=self._deadline_ms
                    )
                    await self._client.bootstrap()
                yield self._client
            except BaseException:
                await self.stop()
                raise

    async def _partitions(self, client: Any) -> dict[int, Partition]:
        node = client.get_random_node()
        if node is None:
            raise kafka.NodeNotReadyError("the broker names no broker")
        answer = await client.send(node, MetadataRequest([self._topic], False))
        ((code, _, _, partitions),) = answer.topics
        if code == kafka.UnknownTopicOrPartitionError.errno:
            raise UnknownTopic(f"there is no topic {self._topic}")
        return {
            number: Partition(leader, len(replicas))
            for _, number, leader, replicas, *_ in partitions
        }

    async def _list_offsets(self, client: Any, at: int) -> dict[int, int]:
        """One offset of every partition; asks again those whose leader is changing."""
        offsets: dict[int, int] = {}
        while True:
            partitions = await self._partitions(client)
            left = {p: at for p in partitions if p not in offsets}
            for node, numbers in _by_leader(partitions, left):
                asked = [(self._topic, [(number, at) for number in numbers])]
                answer = await client.send(node, OffsetRequest(-1, _READ_UNCOMMITTED, asked))
                for _, listed in answer.topics:
                    for number, code, _, offset in listed:
                        error = kafka.for_code(code)
                        if error is kafka.NoError:
                            offsets[number] = offset
                        elif not error.retriable:
                            raise error(f"partition {number}")
            if offsets.keys() >= partitions.keys():
                return offsets
            await asyncio.sleep(RETRY_MS / 1000)

    async def _read(
        self, client: Any, partitions: Mapping[int, Partition], offsets: Mapping[int, int]
    ) -> dict[int, _Answer]:
        """One read of each partition at its offset; what the broker left out is missing."""
        answers: dict[int, _Answer] = {}
        for node, numbers in _by_leader(partitions, offsets):
            asked = [(self._topic, [(number, offsets[number], READ_BYTES) for number in numbers])]
            size = READ_BYTES * len(numbers)
            request = FetchRequest(READ_WAIT_MS, 0, size, _READ_UNCOMMITTED, asked)
            answer = await client.send(node, request)
            for _, read in answer.topics:
                for number, code, highwater, *_, data in read:
                    error = kafka.for_code(code)
                    answers[number] = _Answer(error, highwater, data)
        return answers


def _by_leader(
    partitions: Mapping[int, Partition], numbers: Mapping[int, object]
) -> Iterator[tuple[int, list[int]]]:
    """Which leader to ask for which of `numbers`; those without a leader are left out."""
    nodes: defaultdict[int, list[int]] = defaultdict(list)
    for number in numbers:
        if number in partitions and partitions[number].leader != -1:
            nodes[partitions[number].leader].append(number)
    yield from nodes.items()


def _decoded(data: bytes) -> Iterator[Received]:
    batches = MemoryRecords(data)
    while batches.has_next():
        batch = batches.next_batch()
        if not batch.is_control_batch:
            for record in batch:
                yield Received(
                    record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
                )


def _record_at(answer: _Answer, offset: int, *, patient: bool) -> tuple[bool, Received | None]:
    """Whether this answer settles what is at `offset`, and the record if there is one."""
    if answer.error is kafka.OffsetOutOfRangeError:
        return True, None
    if answer.error is not kafka.NoError:
        return False, None
    for record in _decoded(answer.data):
        if record.offset >= offset:
            return True, record if record.offset == offset else None
    return answer.highwater <= offset and not patient, None
