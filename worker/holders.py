"""The walk over all holders in Redis, compared with the ledger's rows and the outbox.

Both ways, in pages: each row must be in its user's entry, and each grant of an entry must have its
row or, above the watermark, its fact. HSCAN, because a million entries in one call would block
Redis for 0.4 s.
"""

from flashgrab.ledger.books import CampaignBook, CouponRow, Snapshot
from flashgrab.store import Store
from worker.account import Account, Reading
from worker.damage import FINDINGS_MAX, Damage, Finding
from worker.fold import Held, Waiting, check_entry, check_row, name_unmatched, read_holder

ROWS = 5000
HOLDERS = 1000


class HolderWalk:
    """One walk for one campaign. The snapshot and the reading are of one moment; holders grow."""

    def __init__(
        self,
        store: Store,
        snapshot: Snapshot,
        book: CampaignBook,
        account: Account,
        reading: Reading,
    ) -> None:
        self._store = store
        self._snapshot = snapshot
        self._book = book
        self._account = account
        self._reading = reading
        self._rows: dict[int, CouponRow] = {}  # by serial, without a holder
        self._grants: dict[int, str] = {}  # serial → user, without a row or fact
        self._findings: list[Finding] = []
        waiting = reading.outbox.facts.values()
        self._returning = {fact.serial for fact in waiting if fact.kind == "r"}

    async def walk(self) -> list[Finding]:
        """All that is wrong between holders, rows and outbox."""
        await self._rows_to_holders()
        await self._facts_to_holders()
        await self._holders_to_rows()
        named = name_unmatched(self._rows, self._grants, self._account.doubled)
        return [*named, *self._findings][:FINDINGS_MAX]

    async def _rows_to_holders(self) -> None:
        campaign_id, serial = self._book.campaign_id, 0
        while rows := await self._snapshot.serials_above(campaign_id, serial, ROWS):
            serial = rows[-1].serial
            # those above it are compared with the outbox
            known = [r for r in rows if r.seq <= self._book.watermark]
            entries = await self._store.holders_of(campaign_id, [r.user_id for r in known])
            for row, entry in zip(known, entries, strict=True):
                if not check_row(row, entry) and len(self._rows) < FINDINGS_MAX:
                    self._rows[row.serial] = row

    async def _facts_to_holders(self) -> None:
        """A fact that waits in the outbox must be in its user's entry, too."""
        facts = list(self._reading.outbox.facts.values())
        for at in range(0, len(facts), ROWS):
            page = facts[at : at + ROWS]
            users = [fact.user_id for fact in page]
            entries = await self._store.holders_of(self._book.campaign_id, users)
            for fact, entry in zip(page, entries, strict=True):
                if fact.kind == "r":
                    self._check_returned(fact, entry)
                    continue
                row = CouponRow(
                    fact.serial,
                    fact.seq,
                    fact.round,
                    fact.user_id,
                    fact.device_id,
                    fact.request_id,
                )
                if not check_row(row, entry):
                    subject = f"serial {fact.serial}"
                    self._find(Damage.NOT_A_HOLDER, subject, f"user {fact.user_id}")

    def _check_returned(self, fact: Waiting, entry: str) -> None:
        """The user's entry must say of a waiting return that the coupon is returned."""
        try:
            held = [grant for grant in read_holder(entry) if grant.serial == fact.serial]
        except ValueError:
            return  # named as torn, elsewhere
        if [grant.state for grant in held] != ["r"]:
            detail = f"user {fact.user_id} holds it, seq {fact.seq} returned it"
            self._find(Damage.RETURN_DIFFERS, f"serial {fact.serial}", detail)

    async def _holders_to_rows(self) -> None:
        page: dict[str, str] = {}
        async for user_id, entry in self._store.holders(self._book.campaign_id):
            page[user_id] = entry
            if len(page) >= HOLDERS:
                await self._check_holders(page)
                page = {}
        await self._check_holders(page)

    async def _check_holders(self, page: dict[str, str]) -> None:
        persisted: list[tuple[str, Held]] = []
        for user_id, entry in page.items():
            try:
                held = read_holder(entry)
            except ValueError:
                self._find(Damage.TORN_HOLDER, f"user {user_id}", entry[:100])
                continue
            self._findings += check_entry(user_id, held, self._book.per_user)
            for grant in held:
                if grant.seq <= self._book.watermark:
                    persisted.append((user_id, grant))
                elif grant.seq <= self._reading.seq:
                    self._check_waiting(user_id, grant)
        await self._check_persisted(persisted)

    def _check_waiting(self, user_id: str, grant: Held) -> None:
        fact = self._reading.outbox.facts.get(grant.seq)
        if fact is not None and (fact.serial, fact.user_id) != (grant.serial, user_id):
            detail = f"outbox: {fact.user_id}, holder: {user_id}"
            self._find(Damage.WRONG_USER, f"serial {grant.serial}", detail)

    async def _check_persisted(self, grants: list[tuple[str, Held]]) -> None:
        if not grants:
            return
        campaign_id = self._book.campaign_id
        rows = await self._snapshot.rows_of(campaign_id, [g.serial for _, g in grants])
        lone = []
        for user_id, grant in grants:
            row = rows.get(grant.serial)
            same = row is not None and (row.user_id, row.seq, row.round, row.request_id) == (
                user_id,
                grant.seq,
                grant.round,
                grant.request_id,
            )
            if row is None or not same:
                lone.append((user_id, grant))
            elif (grant.state == "r") != self._is_returned(row):
                detail = f"user {user_id}: {grant.state} in Redis, by seq {row.returned_seq} here"
                self._find(Damage.RETURN_DIFFERS, f"serial {grant.serial}", detail)
        if lone:
            dead = await self._snapshot.dead_seqs(campaign_id, [g.seq for _, g in lone])
            for user_id, grant in lone:
                if (grant.seq not in dead or grant.serial in rows) and (
                    len(self._grants) < FINDINGS_MAX
                ):
                    self._grants[grant.serial] = user_id

    def _is_returned(self, row: CouponRow) -> bool:
        """By the ledger, or by a fact that waits for it."""
        return bool(row.returned_seq) or row.serial in self._returning

    def _find(self, damage: Damage, subject: str, detail: str) -> None:
        if len(self._findings) < FINDINGS_MAX:
            self._findings.append(Finding.of(damage, subject, detail))
