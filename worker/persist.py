"""Kafka to ledger: each round of records becomes one transaction.

While one round is being written the next one is fetched and decoded. The ledger's offsets are the
truth; after any doubt (a failure, a rebalance, a lost connection) they are read again, and checked
against the log by the fingerprint of the last record.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import structlog

from flashgrab import keys
from flashgrab.alarms import EVENT_HOLD_MS, Alarm
from flashgrab.broker import (
    Consumer,
    OffsetLost,
    Records,
    UnknownTopic,
    ensure_topics,
    fingerprint,
)
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable, LedgerUnavailable, StaleWriter
from flashgrab.ledger import facts
from flashgrab.ledger.facts import BEGINNING, CampaignKnown, Grant, Move, Position
from flashgrab.ledger.letters import Letter
from flashgrab.ledger.pool import Pool
from flashgrab.telemetry import Metrics
from flashgrab.tracing import Tracer
from worker.forms import Kind, against_ledger, judge_all, kind_of, why_refused
from worker.pause import Pause
from worker.steps import Hook, go_on
from worker.topics import TOPICS
from worker.traced import processing, traced_in

RECORDS_MAX = 10_000
"""Records of one transaction."""
FETCH_MS = 200
LOOK_MS = 1000
"""Between two looks at the ledger's offsets while no records come: a restore may have put them
back, and no transaction is there to fail by it."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Round:
    """What one transaction writes."""

    moves: list[Move]
    grants: list[Grant]
    letters: list[Letter]
    traces: Sequence[str] = ()
    """The traceparents of those facts that are traced."""


class Persist:
    """A member of the group that writes flashgrab.grabs to the ledger, until it is stopped."""

    def __init__(
        self,
        pool: Pool,
        bootstrap: str,
        clock: Clock,
        metrics: Metrics,
        *,
        hook: Hook = go_on,
        records_max: int = RECORDS_MAX,
        session_timeout_ms: int = 6000,
        name: str = "",
        tracer: Tracer | None = None,
    ) -> None:
        self._pool = pool
        self._bootstrap = bootstrap
        self._clock = clock
        self._metrics = metrics
        self._hook = hook
        self._records_max = records_max
        self._session_timeout_ms = session_timeout_ms
        self._name = name
        self._tracer = tracer
        self._held: dict[int, Position] = {}  # what the ledger has, or will have after _writing
        self._known: dict[str, CampaignKnown] = {}
        self._looked_ms = 0
        self._fresh = True  # the last transaction found nothing that the ledger had already
        self._writing: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End after the transaction in flight."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped; a service that is away is waited for."""
        pause = Pause("persist", self._metrics.alarms)
        while not self._stopping.is_set():
            consumer = Consumer(
                self._bootstrap,
                keys.GRABS_TOPIC,
                keys.PERSIST_GROUP,
                name=self._name,
                session_timeout_ms=self._session_timeout_ms,
            )
            try:
                await ensure_topics(self._bootstrap, TOPICS)
                await consumer.start(
                    lambda partitions, c=consumer: self._on_assigned(c, partitions),  # type: ignore[misc]
                    self._on_revoked,
                )
                await self._consume(consumer, pause)
            except BrokerUnavailable as error:
                await pause.again(error)
            finally:
                await self._finish()
                await consumer.stop()

    async def _consume(self, consumer: Consumer, pause: Pause) -> None:
        """Rounds until stopped. Raises BrokerUnavailable where the consumer must be made anew."""
        while not self._stopping.is_set():
            try:
                await self._round(consumer)
                pause.over()
            except OffsetLost as error:
                self._lost_log(f"shorter than what was read, partitions {error.partitions}")
            except UnknownTopic:
                await self._finish()
                await ensure_topics(self._bootstrap, TOPICS)
            except (StaleWriter, LedgerUnavailable) as error:
                consumer.doubt()
                await self._finish()
                await pause.again(error)

    async def _round(self, consumer: Consumer) -> None:
        fetched = await consumer.fetch(self._records_max, FETCH_MS)
        if fetched:
            await self._hook("fetched")
        elif self._writing is None:
            await self._look()
        round_ = await self._read(fetched) if fetched else None
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
        if round_ is not None:
            sent = asyncio.Event()
            self._writing = asyncio.create_task(
                self._write(consumer, round_, sent.set), name="write"
            )
            self._writing.add_done_callback(lambda _: sent.set())
            await sent.wait()  # decoding keeps the loop busy: PostgreSQL would stand idle meanwhile

    async def _look(self) -> None:
        """Raises StaleWriter where the ledger is elsewhere than this worker."""
        now_ms = self._clock.monotonic_ms()
        if not self._held or now_ms - self._looked_ms < LOOK_MS:
            return
        self._looked_ms = now_ms
        held = dict(self._held)
        there = await facts.positions(self._pool, keys.GRABS_TOPIC, list(held))
        if there != held == self._held:  # the partitions may be others meanwhile
            raise StaleWriter("the ledger's offsets were moved while nothing was written")

    async def _read(self, fetched: Mapping[int, Records]) -> Round:
        """Records as what the ledger takes."""
        grants, letters = judge_all(
            [key for records in fetched.values() for key in records.keys],
            [value for records in fetched.values() for value in records.values],
        )
        moves: list[Move] = []
        for partition, records in fetched.items():
            last = records[-1]
            after = Position(last.offset + 1, fingerprint(last))
            moves.append(Move(partition, self._held[partition], after))
        kinds = {kind_of(grant.fact) for grant in grants}
        await self._learn(kinds)
        if any(why_refused(kind, self._known) for kind in kinds):
            refused = [against_ledger(grant, self._known) for grant in grants]
            letters += [letter for letter in refused if letter is not None]
            grants = [g for g, letter in zip(grants, refused, strict=True) if letter is None]
        self._held |= {move.partition: move.after for move in moves}
        traces = traced_in(fetched) if self._tracer is not None else ()
        return Round(moves, grants, letters, traces)

    async def _learn(self, kinds: Collection[Kind]) -> None:
        """Ask the ledger about campaigns, and epochs of campaigns, that are not known yet."""
        unknown = {
            campaign_id
            for campaign_id, _, epoch in kinds
            if (known := self._known.get(campaign_id)) is None or epoch > known.epoch
        }
        if unknown:
            self._known |= await facts.known_campaigns(self._pool, sorted(unknown))

    async def _write(
        self, consumer: Consumer, round_: Round, on_sending: Callable[[], object]
    ) -> None:
        async def before_commit() -> None:
            await self._hook("written")

        with processing(self._tracer, round_.traces, len(round_.grants)):
            written = await facts.write(
                self._pool,
                keys.GRABS_TOPIC,
                round_.moves,
                round_.grants,
                round_.letters,
                self._clock.now_ms(),
                fresh=self._fresh,
                on_sending=on_sending,
                before_commit=before_commit,
            )
        self._fresh = not written.repeats
        self._metrics.add("flashgrab_persisted_facts", (), written.rows + written.returns)
        for reason, count in written.dead.items():
            self._metrics.add("flashgrab_dead_letters", (reason,), count)
            log.error("dead letters", reason=reason, count=count)
        await self._hook("committed")
        await consumer.commit({m.partition: m.after.next_offset for m in round_.moves})
        await self._hook("committed_kafka")

    async def _finish(self) -> None:
        """Wait for the transaction in flight; how it ended, the ledger will tell."""
        writing, self._writing = self._writing, None
        if writing is not None:
            try:
                await writing
            except (StaleWriter, LedgerUnavailable) as error:
                log.warning("a transaction failed", reason=str(error))

    def _lost_log(self, reason: str) -> None:
        alarms = self._metrics.alarms
        alarms.begin(Alarm.KAFKA_LOST_LOG, reason, by="persist", hold_ms=EVENT_HOLD_MS)

    async def _on_revoked(self, partitions: list[int]) -> None:
        await self._finish()
        self._held.clear()

    async def _on_assigned(
        self, consumer: Consumer, partitions: list[int]
    ) -> dict[int, int | None]:
        """Where the ledger is, checked against the log that the broker has now."""
        await self._finish()
        self._known.clear()  # the ledger may have been restored
        held = await facts.positions(self._pool, keys.GRABS_TOPIC, partitions)
        begun = {p: at.next_offset - 1 for p, at in held.items() if at != BEGINNING}
        last = await consumer.records_at(begun) if begun else {}
        for partition, record in last.items():
            if record is not None and fingerprint(record) == held[partition].fingerprint:
                continue
            self._lost_log(f"partition {partition} is a new one: reading on from its start")
            await facts.reset(self._pool, keys.GRABS_TOPIC, partition, held[partition])
            held[partition] = BEGINNING
        self._held = held
        return {p: at.next_offset if at != BEGINNING else None for p, at in held.items()}
