"""A disposable producer: after any failure stop it, make a new one, go on from the cursor."""

import asyncio
from collections.abc import Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka import errors as kafka

from flashgrab.broker.batch import Packed, batches, pack
from flashgrab.broker.calls import (
    METADATA_AGE_MS,
    RETRY_MS,
    STOP_MS,
    UnknownTopic,
    bounded,
    ends_well,
    on_lost_connection,
)
from flashgrab.broker.records import Record
from flashgrab.errors import BrokerUnavailable
from flashgrab.partition import partitions_for

BATCH_BYTES_MAX = 900_000  # of one partition; below Kafka's message.max.bytes (1,048,588)
LOOK_MS = 200  # how often a waiting publish looks whether the topic is still there


class Producer:
    """Publishes to one topic and returns only when every record is acknowledged (acks=all).

    `idempotent` is known after start. Apache Kafka can do it: then records are not doubled by the
    repeats inside one publish, and those outlive a restart of the broker. The embedded broker
    cannot, and after a restart it acknowledges records for topics that it does not have: there a
    lost connection breaks the producer, so that the next one looks for its topic.
    """

    def __init__(self, bootstrap: str, topic: str, *, deadline_ms: int = 5_000) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._deadline_ms = deadline_ms
        self._producer: Any = None  # aiokafka has no types
        self._broken = False
        self.idempotent = False

    async def start(self) -> None:
        """Connect. Raises BrokerUnavailable; UnknownTopic when the topic has to be made first."""
        async with bounded(self._deadline_ms, f"starting a producer for {self._topic}"):
            try:
                self._producer = await self._connected(idempotent=True)
                self.idempotent = True
            except (kafka.BrokerResponseError, kafka.IncompatibleBrokerVersion) as error:
                # The broker has answered that it gives no producer ids; it does so at once.
                if error.retriable:
                    raise
                self._producer = await self._connected(idempotent=False)
            await self._producer.client.add_topic(self._topic)
        if self._partitions() == 0:
            raise UnknownTopic(f"there is no topic {self._topic}")

    async def publish(self, records: Sequence[Record]) -> None:
        """publish_packed for records of any kind."""
        await self.publish_packed([pack(record) for record in records])

    async def publish_packed(self, records: Sequence[Packed]) -> None:
        """Publish all, in order within a partition; return when all are acknowledged.

        One call at a time. Raises BrokerUnavailable past the deadline or at the first failure
        (UnknownTopic, BrokerRefused among them): some of the records may then be in the log, and
        this producer is of no more use.
        """
        if self._broken or self._producer is None:
            raise BrokerUnavailable("this producer is not started or broken: make a new one")
        try:
            async with bounded(self._deadline_ms, f"publishing to {self._topic}"):
                await self._publish(records)
        except BaseException:
            self._broken = True
            raise

    async def stop(self) -> None:
        """Let go of the broker, within STOP_MS even when it is gone or frozen. Raises nothing."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _stop(producer, in_flight=self._broken)

    async def _connected(self, *, idempotent: bool) -> Any:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            client_id="flashgrab-relay",
            acks="all",
            enable_idempotence=idempotent,
            max_batch_size=BATCH_BYTES_MAX,
            request_timeout_ms=self._deadline_ms,
            retry_backoff_ms=RETRY_MS,
            metadata_max_age_ms=METADATA_AGE_MS,
        )
        if not idempotent:
            on_lost_connection(producer.client, self._break)
        try:
            await producer.start()
        except BaseException:
            await _stop(producer, in_flight=True)
            raise
        return producer

    def _break(self) -> None:
        self._broken = True

    def _partitions(self) -> int:
        """How many partitions the topic has; 0 when the broker does not know it."""
        return len(self._producer.client.cluster.partitions_for_topic(self._topic) or ())

    async def _publish(self, records: Sequence[Packed]) -> None:
        partitions = self._partitions()
        if partitions == 0:
            raise UnknownTopic(f"there is no topic {self._topic}")
        parts: list[list[Packed]] = [[] for _ in range(partitions)]
        numbers = partitions_for([key for key, _, _ in records], partitions)
        for number, record in zip(numbers, records, strict=True):
            parts[number].append(record)
        sending = {
            asyncio.create_task(self._send(number, part))
            for number, part in enumerate(parts)
            if part
        }
        try:
            waiting = sending
            while waiting:
                done, waiting = await asyncio.wait(
                    waiting, timeout=LOOK_MS / 1000, return_when=asyncio.FIRST_EXCEPTION
                )
                for task in done:
                    task.result()
                if self._broken:
                    raise BrokerUnavailable(f"lost the connection, publishing to {self._topic}")
                if waiting and self._partitions() == 0:
                    raise UnknownTopic(f"topic {self._topic} is gone")
        finally:
            for task in sending:
                task.cancel()

    async def _send(self, partition: int, records: list[Packed]) -> None:
        """One after the other, the batches of one partition; aiokafka repeats them by itself."""
        for batch in batches(records, BATCH_BYTES_MAX):
            acked = await self._producer.send_batch(batch, self._topic, partition=partition)
            await acked


async def _stop(producer: Any, *, in_flight: bool) -> None:
    """Stop an aiokafka producer without its flush, which waits for ever for a broker that is gone.

    Its sender waits for the requests in flight when it is cancelled; cancelled again, by
    ends_well, it ends them too.
    """
    producer._closed = True  # noqa: SLF001 (stop() itself flushes, see above)
    await ends_well(producer._sender.close(), RETRY_MS if in_flight else STOP_MS // 2)  # noqa: SLF001
    await ends_well(producer.client.close(), STOP_MS // 4)
