"""Reads every campaign's outbox in rounds of about as many facts as the relay wants."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import structlog

from flashgrab.alarms import EVENT_HOLD_MS, Alarm
from flashgrab.broker import Packed, pack
from flashgrab.events import Entry, OutboxEntry
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from flashgrab.tracing import Span, Tracer
from worker.cursors import Cursors, Marks, move
from worker.messages import messages, read_ranges
from worker.packing import packed
from worker.traced import sending

ENTRIES_MAX = 512
HOLE_FACTS_MAX = 50_000
WAIT_MS = 200

log = structlog.get_logger()


@dataclass(slots=True)
class Batch:
    """What one round publishes, and what its acknowledgement means."""

    records: list[Packed] = field(default_factory=list)
    marks: Marks = field(default_factory=list)
    holes: dict[str, str] = field(default_factory=dict)
    oldest_ms: int = 0
    more: bool = False
    """Whether an outbox had more than was read."""
    spans: list[Span] = field(default_factory=list)
    """Of its traced facts, begun."""

    def add(self, records: list[Packed], at_ms: int) -> None:
        """One entry's messages; `at_ms` is when Redis wrote it."""
        self.records += records
        self.oldest_ms = min(self.oldest_ms or at_ms, at_ms)


class OutboxReader:
    """The relay's place in every outbox. Raises StoreUnavailable and StoreRefused."""

    def __init__(
        self, store: Store, metrics: Metrics, facts_a_round: int, tracer: Tracer | None = None
    ) -> None:
        self._store = store
        self._tracer = tracer
        self._metrics = metrics
        self._facts_a_round = facts_a_round
        self._entries_max = 16
        self._cursors = Cursors()
        self._asked: dict[str, str] = {}  # holes by campaign, as Redis has them
        self._sent: dict[str, str] = {}  # holes by campaign, as they were read to be sent again
        self._unacked: dict[str, str] = {}  # those of them that the broker may not have

    async def learn(self) -> None:
        """Which campaigns there are, where they stand, and which facts are asked for again."""
        reading = self._cursors.reading()
        standings = await self._store.standings(sorted(await self._store.registry()))
        self._cursors.learn(standings, reading)
        self._drop(self._asked.keys() - standings.keys())
        self._asked = {campaign_id: s.holes for campaign_id, s in standings.items()}
        self._sent = {c: text for c, text in self._sent.items() if self._asked.get(c) == text}
        for campaign_id, standing in standings.items():
            self._metrics.set("flashgrab_outbox_entries", (campaign_id,), standing.entries)

    def forget_figures(self) -> None:
        """Another relay reports what waits."""
        self._drop(self._asked.keys())

    def _drop(self, campaign_ids: Iterable[str]) -> None:
        for campaign_id in campaign_ids:
            self._metrics.drop("flashgrab_outbox_entries", (campaign_id,))

    async def next(self, *, wait: bool) -> Batch | None:
        """The next round: facts asked for again, and what the outboxes have. None without any;
        `wait` says whether to wait for some, up to WAIT_MS.
        """
        batch = Batch()
        await self._read_holes(batch)
        reading = self._cursors.reading()
        if not reading:
            await asyncio.sleep(WAIT_MS / 1000 if wait else 0)
            return None
        wait_ms = WAIT_MS if wait and not batch.holes else 1
        found = await self._store.outbox_wait(reading, self._entries_max, wait_ms)
        entries, batch.marks = self._cursors.take(reading, found)
        batch.more = any(len(some) >= self._entries_max for some in entries.values())
        asked_for = len(batch.records)
        for campaign_id, some in entries.items():
            for entry in some:
                self._add(batch, campaign_id, entry, None)
        self._aim(entries, len(batch.records) - asked_for)
        return batch if batch.marks or batch.holes else None

    async def oldest_ms(self) -> int:
        """When the oldest fact that the broker does not have was granted (ms), 0 without any."""
        found = []
        for campaign_id in list(self._asked):
            after = self._cursors.acked_seq(campaign_id)
            page = await self._store.outbox(campaign_id, after + 1, entries_max=1)
            found += [entry.at_ms for entry in page if isinstance(entry, OutboxEntry)]
        return min(found, default=0)

    def acked(self, batch: Batch) -> None:
        """The broker has this round."""
        move(batch.marks)
        self._unacked = {c: text for c, text in self._unacked.items() if batch.holes.get(c) != text}

    def back(self) -> None:
        """Read again what was not acknowledged."""
        self._cursors.back()
        self._sent = {c: text for c, text in self._sent.items() if c not in self._unacked}
        self._unacked = {}

    def start_again(self) -> None:
        """Read again everything that is above the watermarks."""
        self._cursors.start_again()

    def _aim(self, entries: dict[str, Sequence[Entry]], facts: int) -> None:
        """Entries to read of a campaign next time, for about as many facts as are wanted."""
        if entries:
            read = sum(map(len, entries.values()))
            wanted = self._facts_a_round * read // (max(1, facts) * len(entries))
            self._entries_max = max(1, min(ENTRIES_MAX, wanted))

    def _add(
        self, batch: Batch, campaign_id: str, entry: Entry, ranges: list[tuple[int, int]] | None
    ) -> None:
        """An entry's facts into the batch; a torn one is named and passed over."""
        why = ""
        if isinstance(entry, OutboxEntry):
            try:
                if self._tracer is not None and entry.trace:
                    entry, spans = sending(self._tracer, campaign_id, entry)
                    batch.spans += spans
                if ranges is None:
                    records = packed(campaign_id, entry)
                else:
                    records = [pack(record) for record in messages(campaign_id, entry, ranges)]
                batch.add(records, entry.at_ms)
            except ValueError as error:
                why = str(error)
        else:
            why = entry.why
        if why:
            self._metrics.add("flashgrab_dead_letters", ("TORN_ENTRY",))
            reason = f"entry {entry.last_seq}: {why}"
            alarms = self._metrics.alarms
            alarms.begin(Alarm.TORN_ENTRY, reason, campaign=campaign_id, hold_ms=EVENT_HOLD_MS)

    async def _read_holes(self, batch: Batch) -> None:
        """Facts that settle.lua's `holes` asks for, once for each value.

        Only those that were sent before: the others are on their way.
        """
        for campaign_id, text in list(self._asked.items()):
            if not text or self._sent.get(campaign_id) == text:
                continue
            asked = read_ranges(text)
            sent_to, before = self._cursors.acked_seq(campaign_id), len(batch.records)
            for first, last in asked:
                await self._read_range(batch, campaign_id, first, min(last, sent_to))
            batch.holes[campaign_id] = text
            self._sent[campaign_id] = self._unacked[campaign_id] = text
            facts = len(batch.records) - before
            log.warning("sending again", campaign=campaign_id, holes=text[:200], facts=facts)

    async def _read_range(self, batch: Batch, campaign_id: str, first: int, last: int) -> None:
        at = first
        while at <= last and len(batch.records) < HOLE_FACTS_MAX:
            page = await self._store.outbox(campaign_id, at)
            for entry in page:
                if isinstance(entry, OutboxEntry) and entry.first_seq > last:
                    return
                self._add(batch, campaign_id, entry, [(first, last)])
            if not page:
                return
            at = page[-1].last_seq + 1
