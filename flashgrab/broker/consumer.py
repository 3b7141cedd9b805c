"""A member of a consumer group whose offsets live with the caller, in the ledger."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka import errors as kafka
from aiokafka.consumer import fetcher

from flashgrab.broker.calls import (
    METADATA_AGE_MS,
    RETRY_MS,
    STOP_MS,
    UnknownTopic,
    bounded,
    ends_well,
    on_lost_connection,
    translated,
)
from flashgrab.broker.group import let_go
from flashgrab.broker.records import Received, Records
from flashgrab.broker.topic_log import TopicLog
from flashgrab.errors import BrokerUnavailable, FlashgrabError

FETCH_WAIT_MS = (
    100  # the broker holds an empty fetch this long; on the embedded one this is latency
)
LOOK_MS = 200  # how often a waiting fetch looks for a rebalance, a lost connection, a lost log
FETCH_SLACK_MS = 100  # a fetch that meets a rebalance ends this much late
COMMIT_MS = 1_000  # commits are for displays of the lag: not worth a longer wait
REQUEST_MS = 10_000  # a broker that stands still this long has its connections closed

OnAssigned = Callable[[list[int]], Awaitable[Mapping[int, int | None]]]
OnRevoked = Callable[[list[int]], Awaitable[None]]
_Told = Callable[[Iterable[Any]], None]  # aiokafka's TopicPartitions


class _Batches(fetcher.PartitionRecords):  # type: ignore[misc] # aiokafka has no types
    """Gives out the records of aiokafka's C part as they are, and many at once (see Records)."""

    def _consumer_record(self, _partition: object, record: Any) -> Any:
        return record

    def take(self, most: int | None) -> tuple[list[Any], bool]:
        """At most so many, in order; whether there are more."""
        taken = list(itertools.islice(self._records_iterator, most))
        return taken, most is not None and len(taken) == most


class _Fetched(fetcher.FetchResult):  # type: ignore[misc] # aiokafka has no types
    """A fetch of one partition whose records are taken without a call each."""

    def getall(self, max_records: int | None = None) -> list[Any]:
        if not self.check_assignment(self._topic_partition) or not self.has_more():
            return []
        taken: list[Any]
        taken, more = self._partition_records.take(max_records)
        self._update_position()
        if not more:
            self._partition_records: Any = None
        return taken


fetcher.PartitionRecords = _Batches
fetcher.FetchResult = _Fetched


class OffsetLost(FlashgrabError):
    """The log of these partitions ends before the consumer's position: another incarnation.

    The next fetch asks on_assigned again for all assigned partitions.
    """

    retriable = True

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = tuple(sorted(partitions))
        super().__init__(f"less is in the log than was read, partitions {self.partitions}")


class Consumer:
    """Reads one topic as a member of `group`.

    Both callbacks run inside fetch, in the caller's task, never beside it. `on_assigned` gets the
    assigned partitions and returns the next offset of each, None for "from the beginning". It is
    asked after every rebalance, after every loss of a connection to the broker (which may come
    back with another log) and after OffsetLost; records read before it has answered are dropped.

    Apache Kafka takes no `session_timeout_ms` below 6,000 by default. The embedded broker waits
    half of it at each join, and one and a half times more for a member that died; with a `name`,
    which no other running member has, whoever died under that name is waited for no more.
    """

    def __init__(
        self,
        bootstrap: str,
        topic: str,
        group: str,
        *,
        name: str = "",
        session_timeout_ms: int = 6_000,
        deadline_ms: int = 5_000,
    ) -> None:
        self._bootstrap = bootstrap
        self._named = bool(name)
        self._client_id = f"flashgrab-worker-{name}" if name else "flashgrab-worker"
        self._topic = topic
        self._group = group
        self._session_timeout_ms = session_timeout_ms
        self._deadline_ms = deadline_ms
        self._log = TopicLog(bootstrap, topic, deadline_ms=deadline_ms)
        self._consumer: Any = None  # aiokafka has no types
        self._on_assigned: OnAssigned
        self._on_revoked: OnRevoked
        self._assigned: list[int] = []  # by the group
        self._revoked: set[int] = set()  # by the group; on_revoked is still to be told
        self._positions: dict[int, int] = {}  # next offset of what on_assigned has answered for
        self._lonely: set[int] = set()  # partitions with one replica
        self._unsure = False  # on_assigned has to be asked before anything is delivered
        self._void = False  # the group gave nothing out, for the broker had no such topic
        self._stuck = False  # and nothing again, though the topic is there

    async def start(self, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        """Connect and ask to join; fetch waits for the assignment.

        Raises BrokerUnavailable; UnknownTopic when the topic has to be made first.
        """
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        await self._log.partitions()
        if self._named:
            await let_go(
                self._bootstrap, self._group, self._client_id, deadline_ms=self._deadline_ms
            )
        async with bounded(self._deadline_ms, f"joining group {self._group}"):
            self._consumer = consumer = AIOKafkaConsumer(
                bootstrap_servers=self._bootstrap,
                client_id=self._client_id,
                group_id=self._group,
                auto_offset_reset="none",
                enable_auto_commit=False,
                session_timeout_ms=self._session_timeout_ms,
                heartbeat_interval_ms=min(500, self._session_timeout_ms // 3),
                request_timeout_ms=max(REQUEST_MS, 2 * self._session_timeout_ms),
                fetch_max_wait_ms=FETCH_WAIT_MS,
                retry_backoff_ms=RETRY_MS,
                metadata_max_age_ms=METADATA_AGE_MS,
            )
            on_lost_connection(consumer._client, self.doubt)  # noqa: SLF001 (see there)
            try:
                await consumer.start()
                consumer.subscribe([self._topic], listener=_Listener(self._take, self._lose))
            except BaseException:
                await self.stop()
                raise

    @property
    def assigned(self) -> tuple[int, ...]:
        """The partitions that fetch reads now."""
        return tuple(sorted(self._positions))

    def position(self, partition: int) -> int:
        """The offset of the next record that fetch will give. KeyError if not assigned."""
        return self._positions[partition]

    async def fetch(self, max_records: int, timeout_ms: int) -> dict[int, Records]:
        """At most `max_records` records by partition; {} when none came within the timeout.

        Raises what the callbacks raise, OffsetLost, BrokerUnavailable (UnknownTopic). After any
        of them fetch may be called again; after BrokerUnavailable a new consumer is better.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + timeout_ms / 1000
        while True:
            await self._settle()
            if self._stuck:
                self._stuck = False
                raise BrokerUnavailable("assigned nothing since the topic was away")
            left_ms = max(0, round((ends - loop.time()) * 1000))
            polled = await self._poll(max_records, min(left_ms, LOOK_MS))
            if not self._unsure:
                self._check_log()
                if polled or not left_ms:
                    return {tp.partition: self._delivered(tp, got) for tp, got in polled.items()}
            elif not left_ms:
                return {}

    def seek(self, partition: int, offset: int) -> None:
        """Read on from there. KeyError if the partition is not assigned."""
        if partition not in self._positions:
            raise KeyError(partition)
        self._consumer.seek(TopicPartition(self._topic, partition), offset)
        self._positions[partition] = offset

    def doubt(self) -> None:
        """Ask on_assigned again at the next fetch (after a transaction that failed, say)."""
        self._unsure = True

    async def record_at(self, partition: int, offset: int) -> Received | None:
        """The record at an offset, None when the log holds none. Leaves the position alone."""
        return (await self.records_at({partition: offset}))[partition]

    async def records_at(self, offsets: Mapping[int, int]) -> dict[int, Received | None]:
        """record_at for several partitions, in one call."""
        return await self._log.records_at(offsets)

    async def beginning_offsets(self) -> dict[int, int]:
        """The first offset still there, of every partition of the topic."""
        return await self._log.beginning_offsets()

    async def end_offsets(self) -> dict[int, int]:
        """The offset that the next record will get, of every partition of the topic."""
        return await self._log.end_offsets()

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Tell Kafka the next offsets, for displays of the lag. Best effort; raises nothing."""
        mine = {
            TopicPartition(self._topic, p): o for p, o in offsets.items() if p in self._positions
        }
        if not mine:
            return  # all of them were revoked meanwhile
        with contextlib.suppress(kafka.KafkaError, TimeoutError):
            async with asyncio.timeout(COMMIT_MS / 1000):
                await self._consumer.commit(mine)

    async def stop(self) -> None:
        """Leave the group, within STOP_MS even when the broker is gone. Raises nothing."""
        consumer, self._consumer = self._consumer, None
        await self._log.stop()
        if consumer is not None:
            await _stop(consumer)

    # --- what aiokafka tells, in its own tasks: only noted here ---------------------------------
    def _take(self, partitions: Iterable[Any]) -> None:
        self._assigned = sorted(tp.partition for tp in partitions)
        self._unsure = True
        # The embedded broker gives a member that joins again what it had before, and so nothing for
        # ever to one that joined while there was no topic; one that leaves and comes anew gets its
        # share. It must not leave before this, in the middle of a join (flashgrab/broker/group.py).
        there = self._consumer is None or self._consumer.partitions_for_topic(self._topic)
        self._stuck = self._void and bool(there) and not self._assigned
        self._void = not there and not self._assigned

    def _lose(self, partitions: Iterable[Any]) -> None:
        self._revoked.update(tp.partition for tp in partitions)
        self._assigned = []
        self._unsure = True

    # --- what fetch does, in the caller's task --------------------------------------------------
    async def _settle(self) -> None:
        """Ask the callbacks until nothing has changed meanwhile, and seek."""
        while self._unsure:
            self._unsure = False
            try:
                await self._ask()
            except BaseException:
                self._unsure = True
                raise

    async def _ask(self) -> None:
        if revoked := sorted(self._revoked):
            self._positions.clear()
            await self._on_revoked(revoked)
            self._revoked.difference_update(revoked)
        if not self._assigned:
            return
        assigned = list(self._assigned)
        partitions = await self._log.partitions()
        answered = await self._on_assigned(assigned)
        offsets = {p: offset for p in assigned if (offset := answered.get(p)) is not None}
        if len(offsets) < len(assigned):
            beginning = await self._log.beginning_offsets()
            offsets = {p: beginning.get(p, 0) for p in assigned} | offsets
        if self._unsure:
            return
        self._lonely = {p for p, where in partitions.items() if where.replicas == 1}
        self._positions = offsets
        for p, offset in offsets.items():
            self.seek(p, offset)

    async def _poll(self, max_records: int, timeout_ms: int) -> dict[Any, list[Any]]:
        slack_ms = timeout_ms + FETCH_SLACK_MS
        try:
            async with asyncio.timeout(slack_ms / 1000):
                polled: dict[Any, list[Any]] = await self._consumer.getmany(
                    timeout_ms=timeout_ms, max_records=max_records
                )
                return polled
        except (TimeoutError, kafka.NoOffsetForPartitionError):
            return {}  # a rebalance is going on, or on_assigned was not asked yet
        except kafka.OffsetOutOfRangeError as error:
            self._unsure = True
            raise OffsetLost(tp.partition for tp in error.args[0]) from error
        except kafka.KafkaError as error:
            raise translated(error, f"fetching from {self._topic}") from error

    def _check_log(self) -> None:
        """Raise if the topic is gone or its log ends before a position.

        Apache Kafka answers OffsetOutOfRange there; the embedded broker answers nothing at all.
        With replicas the high watermark may be behind for a moment, without any loss.
        """
        if self._consumer.partitions_for_topic(self._topic) is None:
            self._unsure = True
            raise UnknownTopic(f"topic {self._topic} is gone")
        lost = [p for p in self._lonely & self._positions.keys() if self._is_short(p)]
        if lost:
            self._unsure = True
            raise OffsetLost(lost)

    def _is_short(self, partition: int) -> bool:
        highwater = self._consumer.highwater(TopicPartition(self._topic, partition))
        return highwater is not None and highwater < self._positions[partition]

    def _delivered(self, tp: Any, got: list[Any]) -> Records:
        self._positions[tp.partition] = got[-1].offset + 1
        return Records(got)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc] # aiokafka has no types
    """Passes on what the group decides."""

    def __init__(self, take: _Told, lose: _Told) -> None:
        self._take, self._lose = take, lose

    def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._take(assigned)

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        self._lose(revoked)


async def _stop(consumer: Any) -> None:
    """Stop an aiokafka consumer; when that takes too long, end its tasks and connections."""
    if await ends_well(consumer.stop(), STOP_MS):
        return
    owners = (consumer._coordinator, consumer._fetcher)  # noqa: SLF001
    names = ("_coordination_task", "_heartbeat_task", "_commit_refresh_task", "_fetch_task")
    tasks = {task for o in owners for n in names if (task := getattr(o, n, None)) is not None}
    tasks |= getattr(consumer._fetcher, "_pending_tasks", set())  # noqa: SLF001
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await ends_well(consumer._client.close(), STOP_MS // 4)  # noqa: SLF001
