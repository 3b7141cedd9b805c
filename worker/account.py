"""One campaign's books, read from ledger and Redis and brought together: what both audits do.

The ledger's rows are folded in steps up to the watermark W; above it the outbox has every fact.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from flashgrab.ledger.books import CampaignBook, Snapshot
from flashgrab.state import Books
from flashgrab.store import Store
from worker.damage import FINDINGS_MAX, Damage, Finding
from worker.fold import (
    NUMBER_MAX,
    Counters,
    Outbox,
    Sum,
    Sums,
    check_counters,
    check_facts_counted,
    check_quotas,
    check_quotas_agree,
    check_returned_above,
    check_rows_above,
    total,
)

STEP = 50_000
"""Facts of one step over the ledger's rows."""
PAGE = 200
"""Outbox entries of one read; between two pages other work has its turn."""
FRESH_MAX = 1000
ROWS_ABOVE_MAX = 5000
ROWS_SAMPLE = 500


class Moved(Exception):
    """The outbox was trimmed beyond the snapshot's watermark meanwhile: take another snapshot."""


class TooMany(Exception):
    """More facts wait in the outbox than this audit is to read."""


@dataclass
class Account:
    """What was folded of a campaign's rows: seqs 1…`audited`."""

    campaign_id: str
    epoch: int
    audited: int = 0
    sums: Sums = field(default_factory=dict)
    unseen: int = 0
    doubled: set[int] = field(default_factory=set)
    findings: list[Finding] = field(default_factory=list)

    async def fold(self, snapshot: Snapshot, book: CampaignBook) -> None:
        """One step towards the watermark."""
        after, upto = self.audited, min(book.watermark, self.audited + STEP)
        if void_end := await snapshot.void_end(self.campaign_id, after):
            upto = min(book.watermark, max(upto, void_end))  # millions of seqs with nothing in them
        where = (self.campaign_id, after, upto)
        rows = await snapshot.sums(*where)
        self.sums = total(self.sums, {r.round: Sum(r.granted, r.returned) for r in rows})
        self.unseen += await snapshot.unseen(*where)
        for first, last in await snapshot.gaps(*where, FINDINGS_MAX):
            self._find(Damage.MISSING_ROW, f"seqs {first}-{last}", "below the watermark")
        doubled = await snapshot.doubles(*where, FINDINGS_MAX)
        self.doubled.update(doubled)
        for seq in doubled:
            self._find(Damage.DOUBLE, f"seq {seq}")
        for user in await snapshot.users_over(*where, book.per_user, FINDINGS_MAX):
            if user.held > book.per_user:
                self.findings.append(
                    _over(Damage.USER_LIMIT, "user", user.name, user.held, book.per_user)
                )
            if user.repeats:
                self._find(Damage.DOUBLE_REQUEST, f"user {user.name}", "in the ledger")
        if book.per_device:
            for device in await snapshot.devices_over(*where, book.per_device, FINDINGS_MAX):
                if device.held > book.per_device:
                    limit = book.per_device
                    self.findings.append(
                        _over(Damage.DEVICE_LIMIT, "device", device.name, device.held, limit)
                    )
        self.audited = upto

    def _find(self, damage: Damage, subject: str, detail: str = "") -> None:
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding.of(damage, subject, detail))


@dataclass(frozen=True)
class Reading:
    """Redis at one moment: its counters, and the facts above the snapshot's watermark."""

    books: Books
    outbox: Outbox
    counters: dict[int, Counters]

    @property
    def seq(self) -> int:
        return self.books.seq


async def read_redis(
    store: Store, book: CampaignBook, outbox: Outbox, waiting_max: int
) -> Reading | None:
    """Counters, and the outbox carried on to them; None where the campaign's key is missing.

    Raises Moved, and TooMany where more than `waiting_max` facts wait.
    """
    campaign_id = book.campaign_id
    outbox.pass_over(book.watermark)
    books = await store.books(campaign_id, len(book.rounds), outbox.last_seq, PAGE)
    if books is None:
        return None
    if books.epoch != book.epoch or books.seq - book.watermark > waiting_max:
        raise Moved if books.epoch != book.epoch else TooMany
    page = books.entries
    outbox.take(page, books.seq)
    while page and page[-1].last_seq < books.seq:
        page = tuple(await store.outbox(campaign_id, page[-1].last_seq + 1, entries_max=PAGE))
        outbox.take(page, books.seq)
    outbox.end(books.seq)
    if outbox.gaps:
        now = (await store.standings([campaign_id])).get(campaign_id)
        if now is None or now.watermark >= outbox.gaps[0][0] or now.epoch != books.epoch:
            raise Moved
    counters = {number: Counters(*row) for number, row in enumerate(books.rounds, 1)}
    return Reading(books, outbox, counters)


async def compare(
    snapshot: Snapshot,
    book: CampaignBook,
    account: Account,
    reading: Reading,
    rows_above_max: int = ROWS_ABOVE_MAX,
) -> list[Finding]:
    """Everything that is wrong, the rows' own findings included.

    The rows above the watermark are all compared where at most `rows_above_max` facts are there,
    else ROWS_SAMPLE of them, lowest seqs first.
    """
    campaign_id, watermark, seq = book.campaign_id, book.watermark, reading.seq
    findings = [*account.findings, *reading.outbox.torn]
    if seq < watermark:
        detail = f"Redis has given {seq} seqs, the ledger holds {watermark}"
        findings.append(Finding.of(Damage.EXTRA_ROW, "seqs above Redis' own", detail))
    for first, last in reading.outbox.gaps:
        findings.append(Finding.of(Damage.GAP, f"seqs {first}-{last}"))
    whole = seq - watermark <= rows_above_max
    most = 2 * rows_above_max if whole else ROWS_SAMPLE
    above = await snapshot.rows_above(campaign_id, watermark, most)
    findings += check_rows_above(above, reading.outbox, seq, reading.books.serial)
    beyond = await snapshot.rows_above(campaign_id, max(seq, watermark), FINDINGS_MAX)
    findings += check_rows_above(beyond, reading.outbox, seq, reading.books.serial)
    returned = await snapshot.returned_above(campaign_id, watermark, most)
    findings += check_returned_above(returned, reading.outbox, seq)
    for row in await snapshot.serials_above(campaign_id, reading.books.serial, FINDINGS_MAX):
        detail = f"Redis has given serials to {reading.books.serial}"
        findings.append(Finding.of(Damage.EXTRA_ROW, f"serial {row.serial}", detail))
    if whole:
        facts = await snapshot.sums(campaign_id, watermark, NUMBER_MAX)
        own = {r.round: Sum(r.granted, r.returned) for r in facts}
        findings += _check_own_counts(book, total(account.sums, own))
    if book.dead:
        findings.append(Finding.of(Damage.DEAD_LETTER, f"{book.dead} in the dead table"))
    findings += await _check_limits(snapshot, book, reading)
    findings += check_counters(reading.counters)
    quotas = {number: row.quota for number, row in book.rounds.items()}
    sums = total(account.sums, reading.outbox.sums)
    findings += check_quotas(sums, quotas)
    if book.applied:
        findings += check_quotas_agree(quotas, reading.counters)
    if not any(f.damage.value.invariant in ("I4", "I5") for f in findings) or book.dead:
        # else what is missing or too much is named already
        findings += check_facts_counted(sums, reading.counters, account.unseen)
    return list({f.key: f for f in findings}.values())


def _check_own_counts(book: CampaignBook, sums: Mapping[int, Sum]) -> list[Finding]:
    """The counts that persist keeps in `rounds` against the rows."""
    findings = []
    for number, row in sorted(book.rounds.items()):
        one = sums.get(number, Sum())
        if one != (row.granted, row.returned):
            detail = f"counted {row.granted} and {row.returned} returned, rows {tuple(one)}"
            findings.append(Finding.of(Damage.ROWS_MISCOUNTED, f"round {number}", detail))
    return findings


async def _check_limits(snapshot: Snapshot, book: CampaignBook, reading: Reading) -> list[Finding]:
    """I2 and I3 for the users and devices of facts that are new in the outbox.

    With the ledger are compared FRESH_MAX of them: the others are, once they are rows.
    """
    outbox, findings = reading.outbox, []
    fresh = outbox.fresh[-FRESH_MAX:]
    users = sorted({fact.user_id for fact in fresh})
    rows = await snapshot.grants_of_users(book.campaign_id, book.watermark, users)
    for user_id, waiting in outbox.users.items() if len(outbox.fresh) > len(fresh) else ():
        count = len(waiting) - outbox.users_back[user_id]
        if count > book.per_user:
            findings.append(_over(Damage.USER_LIMIT, "user", user_id, count, book.per_user))
    repeating = set(outbox.twice)
    for user_id in users:
        waiting, old = outbox.users.get(user_id, ()), rows.get(user_id, [])
        count = len(waiting) + sum(1 for _, held in old if held) - outbox.users_back[user_id]
        if count > book.per_user:
            findings.append(_over(Damage.USER_LIMIT, "user", user_id, count, book.per_user))
        if old and not {request_id for request_id, _ in old}.isdisjoint(waiting):
            repeating.add(user_id)
    findings += [
        Finding.of(Damage.DOUBLE_REQUEST, f"user {user_id}", "above the watermark")
        for user_id in sorted(repeating)
    ]
    devices = sorted({fact.device_id for fact in fresh if fact.device_id})
    if book.per_device and devices:
        on = await snapshot.held_by_devices(book.campaign_id, book.watermark, devices)
        for device in devices:
            waiting_on = outbox.devices.get(device, 0) - outbox.devices_back[device]
            count = on.get(device, 0) + waiting_on
            if count > book.per_device:
                limit = book.per_device
                findings.append(_over(Damage.DEVICE_LIMIT, "device", device, count, limit))
    return findings[:FINDINGS_MAX]


def _over(damage: Damage, what: str, name: str, count: int, limit: int) -> Finding:
    return Finding.of(damage, f"{what} {name}", f"holds {count}, may hold {limit}")
