"""The complete audit: recounts every row, walks every holder, and compares all with all.

What it calls wrong stands in two readings, each of a moment of its own.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from flashgrab import keys
from flashgrab.broker import TopicLog
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable
from flashgrab.ledger import books, progress
from flashgrab.ledger.books import snapshot
from flashgrab.ledger.pool import Pool
from flashgrab.store import Store
from worker.account import Account, Moved, TooMany, compare, read_redis
from worker.damage import Damage, Finding, Invariant, in_both, verdict
from worker.fold import Outbox
from worker.holders import HolderWalk

WAITING_MAX = 2_000_000
"""Facts above the watermark that a complete audit keeps in memory; past it: `--drain` first."""
TRIES = 20
POLL_MS = 100


class NotCaughtUp(Exception):
    """Too many facts wait in an outbox for one audit; the message names the campaign."""


@dataclass(frozen=True)
class CampaignReport:
    """One campaign's books. Numbers are coupons; `outbox` counts facts above the watermark."""

    campaign_id: str
    quota: int = 0
    left: int = 0
    granted: int = 0
    returned: int = 0
    persisted: int = 0
    watermark: int = 0
    outbox: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def invariants(self) -> dict[Invariant, bool]:
        return verdict(self.findings)

    def as_json(self) -> dict[str, Any]:
        """The shape of contract §4, with the findings beside it."""
        names = ("campaign_id", "quota", "left", "granted", "returned", "persisted")
        numbers = {name: getattr(self, name) for name in (*names, "watermark", "outbox")}
        return numbers | {"invariants": self.invariants, "findings": as_json(self.findings)}


@dataclass(frozen=True)
class Report:
    """Everything that was audited; `findings` here belong to no single campaign.

    `kafka` is how many records of the log the ledger has not read, None where nobody could say:
    progress, and no reason for a finding, since the outbox still has what they hold.
    """

    campaigns: list[CampaignReport]
    findings: list[Finding]
    kafka: int | None = None

    @property
    def ok(self) -> bool:
        return not self.findings and not any(c.findings for c in self.campaigns)

    @property
    def damages(self) -> set[Damage]:
        """The kinds of damage that were found."""
        found = [*self.findings, *(f for c in self.campaigns for f in c.findings)]
        return {f.damage for f in found}

    def as_json(self) -> dict[str, Any]:
        """The shape of contract §4."""
        campaigns = [c.as_json() for c in self.campaigns]
        findings = as_json(self.findings)
        behind = {"behind": self.kafka}
        return {"ok": self.ok, "campaigns": campaigns, "findings": findings, "kafka": behind}


def as_json(findings: list[Finding]) -> list[dict[str, str]]:
    """Findings as plain data."""
    return [
        {
            "damage": f.damage_name,
            "invariant": f.damage.value.invariant,
            "meaning": f.damage.value.words,
            "subject": f.subject,
            "detail": f.detail,
        }
        for f in findings
    ]


class Audit:
    """Raises LedgerUnavailable, StoreUnavailable, StoreRefused, NotCaughtUp."""

    def __init__(
        self, pool: Pool, store: Store, clock: Clock, topic_log: TopicLog | None = None
    ) -> None:
        self._pool = pool
        self._store = store
        self._clock = clock
        self._topic_log = topic_log

    async def run(self, campaign_id: str | None = None, drain_ms: int = 0) -> Report:
        """Audit one campaign or all; with `drain_ms` wait up to so long for the ledger first."""
        behind = await self._drain(campaign_id, drain_ms) if drain_ms else {}
        ids = [campaign_id] if campaign_id else await books.published(self._pool)
        reports = []
        for one in ids:
            report = await self._twice(one)
            if one in behind:
                late = Finding.of(Damage.NOT_DRAINED, f"{behind[one]} facts wait")
                report.findings.append(late)
            reports.append(report)
        findings = [] if campaign_id else await self._of_no_campaign(ids)
        return Report(reports, findings, await self._kafka_behind())

    async def _kafka_behind(self) -> int | None:
        if self._topic_log is None:
            return None
        try:
            ends = await self._topic_log.end_offsets()
        except BrokerUnavailable:
            return None
        done = await progress.next_offsets(self._pool, keys.GRABS_TOPIC)
        return sum(max(0, end - done.get(partition, 0)) for partition, end in ends.items())

    async def _drain(self, campaign_id: str | None, drain_ms: int) -> dict[str, int]:
        """Wait until every fact is in the ledger; afterwards the campaigns that are not so far."""
        ends_ms = self._clock.monotonic_ms() + drain_ms
        while True:
            standings = {s.campaign_id: s for s in await progress.standings(self._pool)}
            wanted = [campaign_id] if campaign_id else list(standings)
            there = await self._store.standings([c for c in wanted if c in standings])
            behind = {
                c: max(s.seq - standings[c].watermark, 1)
                for c, s in there.items()
                if s.seq != standings[c].watermark or s.watermark != s.seq
            }
            if not behind or self._clock.monotonic_ms() >= ends_ms:
                return behind
            await asyncio.sleep(POLL_MS / 1000)

    async def _twice(self, campaign_id: str) -> CampaignReport:
        first = await self._settled(campaign_id)
        if not first.findings:
            return first
        second = await self._settled(campaign_id)
        stands = in_both(first.findings, second.findings)
        second.findings[:] = stands
        return second

    async def _settled(self, campaign_id: str) -> CampaignReport:
        """One reading, taken again while the outbox is trimmed under it."""
        for _ in range(TRIES):
            try:
                return await self._once(campaign_id)
            except Moved:
                continue
            except TooMany:
                break
        raise NotCaughtUp(
            f"campaign {campaign_id} has too many facts on the way: let the ledger catch up"
            " with --drain 60s"
        )

    async def _once(self, campaign_id: str) -> CampaignReport:
        async with snapshot(self._pool) as moment:
            book = await moment.head(campaign_id)
            if book is None:
                unknown = Finding.of(Damage.UNKNOWN_CAMPAIGN, campaign_id)
                return CampaignReport(campaign_id, findings=[unknown])
            quota = sum(r.quota for r in book.rounds.values())
            reading = await read_redis(self._store, book, Outbox(book.watermark), WAITING_MAX)
            account = Account(campaign_id, book.epoch)
            while account.audited < book.watermark:
                await account.fold(moment, book)
            granted = sum(s.granted for s in account.sums.values())
            returned = sum(s.returned for s in account.sums.values())
            persisted = await moment.persisted(campaign_id)
            if reading is None:
                missing = [*account.findings, Finding.of(Damage.KEY_MISSING, "stock")]
                return CampaignReport(
                    campaign_id, quota, 0, granted, returned, persisted, book.watermark, 0, missing
                )
            findings = await compare(moment, book, account, reading, WAITING_MAX)
            walked = await HolderWalk(self._store, moment, book, account, reading).walk()
            waiting = reading.outbox.sums.values()
            return CampaignReport(
                campaign_id,
                quota,
                sum(c.left for c in reading.counters.values()),
                granted + sum(s.granted for s in waiting),
                returned + sum(s.returned for s in waiting),
                persisted,
                book.watermark,
                max(0, reading.seq - book.watermark),
                list({f.key: f for f in (*walked, *findings)}.values()),
            )

    async def _of_no_campaign(self, known: list[str]) -> list[Finding]:
        """Campaigns and dead letters that the ledger can't place."""
        unknown = sorted(await self._store.registry() - set(known))
        findings = [Finding.of(Damage.UNKNOWN_CAMPAIGN, campaign_id) for campaign_id in unknown]
        if stray := await books.stray_dead_letters(self._pool):
            findings.append(Finding.of(Damage.DEAD_LETTER, f"{stray} of no campaign"))
        return findings
