"""The audit that runs beside the sale: once a second, and only what is new since the last time.

What is wrong turns its invariant red at once; the campaign's rows are then counted anew from the
first one, and it turns green when such a count finds nothing.
"""

from collections.abc import Mapping

import structlog

from flashgrab.alarms import Alarm
from flashgrab.clock import Clock
from flashgrab.ledger import books
from flashgrab.ledger.books import snapshot
from flashgrab.ledger.pool import Pool
from flashgrab.state import OutboxStanding
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from worker.account import Account, Moved, TooMany, compare, read_redis
from worker.damage import INVARIANTS, Damage, Finding, verdict
from worker.fold import Outbox
from worker.remedies import runbook

WAITING_MAX = 200_000
"""Facts above the watermark past which a round of the audit is left out."""
WHOLE_MAX = 5000
"""Waiting facts up to which the whole outbox is read each time; past it only what is new."""
STEPS_MAX = 4
TRIES = 5
IDLE_MS = 10_000
"""How often a campaign is looked at in which nothing happens."""
SAID_MAX = 5
LIGHTS = "flashgrab_invariant_ok"
AUDITOR = "books"
"""Who sees these alarms."""

log = structlog.get_logger()


class LiveAudit:
    """The walker's last duty: feeds flashgrab_invariant_ok. Raises LedgerUnavailable,
    StoreUnavailable and StoreRefused."""

    def __init__(
        self, pool: Pool, store: Store, clock: Clock, metrics: Metrics, *, idle_ms: int = IDLE_MS
    ) -> None:
        self._pool = pool
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._idle_ms = idle_ms
        self._accounts: dict[str, Account] = {}
        self._outboxes: dict[str, Outbox] = {}
        self._looked: dict[str, tuple[OutboxStanding | None, int]] = {}  # and when, if green
        self._suspects: dict[str, set[tuple[str, str]]] = {}
        self._red: dict[str, set[str]] = {}

    async def step(self) -> None:
        """One round over all campaigns."""
        campaigns = await books.published(self._pool)
        standings = await self._store.standings(campaigns)
        stray = await books.stray_dead_letters(self._pool)
        for campaign_id in campaigns:
            if not self._is_idle(campaign_id, standings.get(campaign_id)):
                await self._audit(campaign_id, standings, stray)
        for gone in (self._accounts.keys() | self._suspects.keys()) - set(campaigns):
            self._forget(gone)
            self._looked.pop(gone, None)
            self._suspects.pop(gone, None)
            self._red.pop(gone, None)
            for invariant in INVARIANTS:
                self._metrics.drop(LIGHTS, (gone, invariant))
        self._alarm()

    def forget_figures(self) -> None:
        """This process does not look, or can't: the next look is at every campaign."""
        self._looked.clear()
        self._metrics.only(LIGHTS, {})

    def _alarm(self) -> None:
        """What was found and not yet found right; dead letters are an alarm of their own."""
        dead = {c: "" for c, red in self._red.items() if Damage.DEAD_LETTER.name in red}
        wrong = {
            c: " ".join(sorted({Damage[name].value.invariant for name in names}))
            for c, red in self._red.items()
            if (names := red - {Damage.DEAD_LETTER.name})
        }
        self._metrics.alarms.only(Alarm.DEAD_LETTERS, dead, by=AUDITOR)
        self._metrics.alarms.only(Alarm.BOOKS_WRONG, wrong, by=AUDITOR)

    def _is_idle(self, campaign_id: str, standing: OutboxStanding | None) -> bool:
        account = self._accounts.get(campaign_id)
        before, at_ms = self._looked.get(campaign_id, (None, 0))
        return (
            standing is not None
            and account is not None
            and standing == before
            and standing.seq == account.audited
            and self._clock.monotonic_ms() - at_ms < self._idle_ms
        )

    async def _audit(
        self, campaign_id: str, standings: Mapping[str, OutboxStanding], stray: int
    ) -> None:
        findings = await self._examine(campaign_id)
        if findings is None:
            return
        if stray:
            findings.append(Finding.of(Damage.DEAD_LETTER, f"{stray} of no campaign"))
        findings = self._without_races(campaign_id, findings)
        if findings:
            self._forget(campaign_id)
            self._looked.pop(campaign_id, None)
        else:
            self._looked[campaign_id] = (standings.get(campaign_id), self._clock.monotonic_ms())
        self._report(campaign_id, findings)

    async def _examine(self, campaign_id: str) -> list[Finding] | None:
        """What is wrong now; None where this round is left out."""
        for _ in range(TRIES):
            try:
                return await self._look(campaign_id)
            except Moved:
                self._outboxes.pop(campaign_id, None)
            except TooMany:
                self._outboxes.pop(campaign_id, None)
                return None
        return None

    async def _look(self, campaign_id: str) -> list[Finding] | None:
        async with snapshot(self._pool) as moment:
            book = await moment.head(campaign_id)
            if book is None:
                return None
            outbox = self._outboxes.get(campaign_id)
            if outbox is None or outbox.last_seq - book.watermark <= WHOLE_MAX:
                outbox = self._outboxes[campaign_id] = Outbox(book.watermark)
            reading = await read_redis(self._store, book, outbox, WAITING_MAX)
            if reading is None:
                return [Finding.of(Damage.KEY_MISSING, "stock")]
            account = self._accounts.get(campaign_id)
            if account is None or account.epoch != book.epoch or account.audited > book.watermark:
                account = self._accounts[campaign_id] = Account(campaign_id, book.epoch)
            for _ in range(STEPS_MAX):
                if account.audited < book.watermark:
                    await account.fold(moment, book)
            if account.audited < book.watermark:
                return account.findings or None
            return await compare(moment, book, account, reading)

    def _forget(self, campaign_id: str) -> None:
        """Count this campaign anew from its first fact."""
        self._accounts.pop(campaign_id, None)
        self._outboxes.pop(campaign_id, None)

    def _without_races(self, campaign_id: str, findings: list[Finding]) -> list[Finding]:
        """Quotas are changed in the ledger first: a difference counts in its second reading."""
        before = self._suspects.get(campaign_id, set())
        self._suspects[campaign_id] = {f.key for f in findings}
        return [f for f in findings if f.damage is not Damage.QUOTA_DIFFERS or f.key in before]

    def _report(self, campaign_id: str, findings: list[Finding]) -> None:
        for invariant, good in verdict(findings).items():
            self._metrics.set(LIGHTS, (campaign_id, invariant), int(good))
        red = {f.damage_name for f in findings}
        if red != self._red.get(campaign_id, set()):
            self._red[campaign_id] = red
            for f in findings[:SAID_MAX]:
                log.error(
                    "the books do not balance",
                    campaign=campaign_id,
                    invariant=f.damage.value.invariant,
                    damage=f.damage_name,
                    subject=f.subject,
                    detail=f.detail,
                    runbook=runbook(f.damage.value.invariant),
                )
