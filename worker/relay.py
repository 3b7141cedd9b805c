"""Outbox to Kafka. Published is not the end: entries stay in the outbox until the ledger has them,
so whatever the broker loses can be sent again, and sending twice is harmless.

While one round is being acknowledged the next one is read. The cursors move only after the ack.
Of several relays the one that holds the lease does this (worker/lease.py); the others wait.
"""

import asyncio
import contextlib

import structlog

from flashgrab import keys
from flashgrab.alarms import EVENT_HOLD_MS, Alarm
from flashgrab.broker import Producer, TopicLog, UnknownTopic, ensure_topics
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.store import Store
from flashgrab.tasks import end
from flashgrab.telemetry import Metrics
from flashgrab.tracing import Tracer, ending
from worker.lease import LEASE_MS, Lease
from worker.outbox import Batch, OutboxReader
from worker.pause import Pause
from worker.signals import end_all
from worker.steps import Hook, go_on
from worker.topics import TOPICS

FACTS_A_ROUND = 8000
"""Facts that one round aims at; two rounds are in memory at the most."""
GATHER_MS = 100
"""After a round that left nothing behind, the next one is read no sooner: each has fixed costs,
here, in the broker and in the worker, that many facts share. No buyer waits for it."""
POLL_MS = 1000
DEADLINE_MS = 5000
LOG_DEADLINE_MS = 1000
LOG = "relay: end of the log"
END_MS = 2 * DEADLINE_MS
"""How long the rounds may take to end after a stop."""

STORE_GONE = (StoreUnavailable, StoreRefused)

log = structlog.get_logger()


class Relay:
    """Publishes every campaign's outbox while it leads, until it is stopped. Knows Redis and Kafka
    only."""

    def __init__(
        self,
        store: Store,
        bootstrap: str,
        clock: Clock,
        metrics: Metrics,
        *,
        hook: Hook = go_on,
        facts_a_round: int = FACTS_A_ROUND,
        gather_ms: int = GATHER_MS,
        deadline_ms: int = DEADLINE_MS,
        poll_ms: int = POLL_MS,
        lease_ms: int = LEASE_MS,
        name: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self._store = store
        self._bootstrap = bootstrap
        self._clock = clock
        self._metrics = metrics
        self._hook = hook
        self._deadline_ms = deadline_ms
        self._poll_ms = poll_ms
        self.lease = Lease(store, clock, metrics, name=name, lease_ms=lease_ms)
        self._term = 0  # the epoch of the lease that the reader's cursors belong to
        self._reader = OutboxReader(store, metrics, facts_a_round, tracer)
        self._gather_ms = gather_ms
        self._rest_until_ms = 0  # monotonic; after a round that left nothing behind
        self._producer: Producer | None = None
        self._flying: asyncio.Task[Batch] | None = None
        self._ends: dict[int, int] = {}  # where the topic's partitions ended
        self._acked = 0  # records that this log acknowledged
        self._log_lost = False
        self._oldest_ms = 0  # when the oldest fact not acknowledged was granted, 0 without any
        self._told_no_idempotence = False
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()

    def stop(self) -> None:
        """End after the round in flight."""
        self._stopping.set()
        self._changed.set()
        self.lease.heard.set()

    async def run(self) -> None:
        """Until stopped; a service that is away is waited for."""
        poll = asyncio.create_task(self._poll(), name="poll")
        publish = asyncio.create_task(self._publish_all(), name="publish")
        follow = asyncio.create_task(self._follow(), name="follow")
        leasing = asyncio.create_task(self.lease.run(), name="lease")
        tasks = (publish, poll, follow)
        try:
            await asyncio.wait({*tasks, leasing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.stop()
            follow.cancel()
            await end_all(tasks, END_MS)
            self.lease.stop()  # only now: what is in flight has ended
            await end_all([leasing], END_MS)
            await self._drop_producer()
        for task in (*tasks, leasing):
            if not task.cancelled():
                task.result()

    # -- the rounds ------------------------------------------------------------------------------

    async def _publish_all(self) -> None:
        pause = Pause("relay", self._metrics.alarms)
        try:
            while not (self._stopping.is_set() and self._flying is None):
                try:
                    if await self._leads():
                        await self._round()
                    pause.over()
                except (*STORE_GONE, BrokerUnavailable) as error:
                    await self._after_failure(error)
                    await pause.again(error)
        finally:
            if self._flying is not None:
                await end([self._flying])

    async def _leads(self) -> bool:
        """Whether there is a round to do; without the lease, wait for it. A new term knows nothing
        of the one before: it starts at the first entry."""
        if not self.lease.leads():
            await self._land()
            if not self._stopping.is_set():
                self.lease.heard.clear()
                await self.lease.heard.wait()
        elif self._term != self.lease.epoch:
            await self._land()
            await self._drop_producer()
            self._term, self._acked = self.lease.epoch, 0
            self._start_again()
            self._changed.set()
        return self.lease.leads()

    async def _round(self) -> None:
        """Read the next round, wait for the ack of the one before, send the next one off."""
        producer = await self._ready()
        if self._rest_until_ms:
            await self._land()
            await self._rest()
        batch = await self._next(wait=self._flying is None)
        await self._land()
        if batch is not None and not self.lease.leads():
            self._reader.back()  # it stood still for so long that another one may lead by now
        elif batch is not None:
            self._oldest_ms = self._oldest_ms or batch.oldest_ms
            self._flying = asyncio.create_task(self._publish(producer, batch), name="ack")

    async def _rest(self) -> None:
        """Let facts gather; a stop ends it."""
        left_ms, self._rest_until_ms = self._rest_until_ms - self._clock.monotonic_ms(), 0
        if left_ms > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_ms / 1000):
                    await self._stopping.wait()

    async def _land(self) -> None:
        """Wait for the round in flight, if any, and move the cursors over it."""
        flying, self._flying = self._flying, None
        if flying is None:
            return
        batch = await flying
        await self._hook("published")
        self._reader.acked(batch)
        self._acked += len(batch.records)
        self._oldest_ms = 0
        self._metrics.add("flashgrab_relayed_facts", (), len(batch.records))
        await self._hook("cursor")

    async def _next(self, *, wait: bool) -> Batch | None:
        if self._stopping.is_set():
            return None
        batch = await self._reader.next(wait=wait)
        if batch is not None:
            if not batch.more:
                self._rest_until_ms = self._clock.monotonic_ms() + self._gather_ms
            await self._hook("read")
        return batch

    async def _publish(self, producer: Producer, batch: Batch) -> Batch:
        if batch.records:
            with ending(batch.spans):
                await producer.publish_packed(batch.records)
        return batch

    async def _after_failure(self, error: Exception) -> None:
        """Whatever broke, go on from what is acknowledged; the round in flight has a deadline."""
        broken = isinstance(error, BrokerUnavailable)
        try:
            await self._land()
        except BrokerUnavailable:
            broken = True
        self._reader.back()
        if broken:
            await self._drop_producer()

    # -- the broker ------------------------------------------------------------------------------

    async def _ready(self) -> Producer:
        """The producer, made anew after a failure. Raises BrokerUnavailable."""
        if self._log_lost:
            self._start_again()
        if self._producer is None:
            producer = Producer(self._bootstrap, keys.GRABS_TOPIC, deadline_ms=self._deadline_ms)
            try:
                await producer.start()
            except UnknownTopic:
                await producer.stop()
                await ensure_topics(self._bootstrap, TOPICS)
                self._start_again()
                raise
            except BaseException:
                await producer.stop()
                raise
            self._producer = producer
            if not producer.idempotent and not self._told_no_idempotence:
                self._told_no_idempotence = True
                log.warning("this broker has no idempotent producer; ledger and watermark make up")
        return self._producer

    def _start_again(self) -> None:
        """The broker has another log than the one that acknowledged, or this is another term."""
        if self._acked:
            reason = "it was begun anew: sending again what the ledger lacks"
            alarms = self._metrics.alarms
            alarms.begin(Alarm.KAFKA_LOST_LOG, reason, hold_ms=EVENT_HOLD_MS)
        self._log_lost = False
        self._ends = {}
        self._acked = 0
        self._reader.start_again()

    async def _drop_producer(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            await producer.stop()

    # -- beside the rounds -----------------------------------------------------------------------

    async def _poll(self) -> None:
        """Once a second, and after a push: campaigns, holes, the log's end, metrics. The leader's
        alone: figures of one that waits would be counted twice."""
        topic_log = TopicLog(self._bootstrap, keys.GRABS_TOPIC, deadline_ms=LOG_DEADLINE_MS)
        pause = Pause("relay: campaigns", self._metrics.alarms)
        try:
            while not self._stopping.is_set():
                self._changed.clear()
                if not self.lease.leads():
                    self._reader.forget_figures()
                    self._metrics.drop("flashgrab_relay_lag_seconds", ())
                    await self._changed.wait()
                    continue
                try:
                    await self._reader.learn()
                    await self._measure_lag()
                    pause.over()
                except STORE_GONE as error:
                    await pause.again(error)
                    continue
                await self._look_at_log(topic_log)
                try:
                    async with asyncio.timeout(self._poll_ms / 1000):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            await topic_log.stop()

    async def _measure_lag(self) -> None:
        """The age of the oldest fact not in Kafka; without a producer nothing is read by itself."""
        oldest_ms = self._oldest_ms
        if self._producer is None:
            oldest_ms = await self._reader.oldest_ms()
        age_ms = self._clock.now_ms() - oldest_ms if oldest_ms else 0
        self._metrics.set("flashgrab_relay_lag_seconds", (), max(0, age_ms) / 1000)

    async def _look_at_log(self, topic_log: TopicLog) -> None:
        """A log that ends before where it ended, or holds fewer records than it acknowledged, is
        another one; a producer would not notice."""
        acked = self._acked
        try:
            ends = await topic_log.end_offsets()
        except BrokerUnavailable as error:  # the rounds find out too, but where nothing is sent
            self._metrics.alarms.failed(error, LOG)
            return
        self._metrics.alarms.leave(LOG)
        shorter = any(ends.get(partition, 0) < end for partition, end in self._ends.items())
        if shorter or sum(ends.values()) < acked:
            self._log_lost = True
        else:
            self._ends = ends

    async def _follow(self) -> None:
        """Campaigns that change are looked at at once; the poll makes up for a lost push."""
        pause = Pause("relay: push", None)  # the poll says so
        while True:
            try:
                async for _ in self._store.changes():
                    pause.over()
                    self._changed.set()
            except STORE_GONE as error:
                await pause.again(error)
