"""The books, folded from the facts and compared with the counters. Pure: no I/O, no clock.

Written without the scripts' and the worker's code on purpose: what both got wrong in the same way
would look right to neither.
"""

import itertools
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from flashgrab.events import Entry, OutboxEntry
from flashgrab.ledger.books import CouponRow as Row
from worker.damage import FINDINGS_MAX, Damage, Finding

NUMBER_MAX = 10**14
"""Serials and seqs stay below it."""


class Sum(NamedTuple):
    """Facts of one round."""

    granted: int = 0
    returned: int = 0

    def plus(self, granted: int, returned: int) -> "Sum":
        return Sum(self.granted + granted, self.returned + returned)

    @property
    def out(self) -> int:
        """Coupons that are out."""
        return self.granted - self.returned


Sums = dict[int, Sum]
"""By number of the round."""


class Waiting(NamedTuple):
    """A fact that waits in the outbox."""

    seq: int
    kind: str
    serial: int
    round: int
    user_id: str
    device_id: str
    request_id: str


class Counters(NamedTuple):
    """A round as Redis counts it."""

    quota: int
    left: int
    granted: int
    returned: int


class Held(NamedTuple):
    """One grant in a holder's entry."""

    serial: int
    seq: int
    round: int
    state: str
    request_id: str


@dataclass
class Outbox:
    """The facts above the watermark, folded; it can be carried on from reading to reading.

    `users` has the request ids of each user's waiting grants, `devices` how many grants wait on
    each, `users_back` and `devices_back` how many returns; `twice` the users with a request id
    that waits twice.
    """

    watermark: int
    last_seq: int = 0
    facts: dict[int, Waiting] = field(default_factory=dict)
    fresh: list[Waiting] = field(default_factory=list)
    sums: Sums = field(default_factory=dict)
    users: dict[str, tuple[str, ...]] = field(default_factory=dict)
    devices: dict[str, int] = field(default_factory=dict)
    users_back: Counter[str] = field(default_factory=Counter)
    devices_back: Counter[str] = field(default_factory=Counter)
    twice: set[str] = field(default_factory=set)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    torn: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.last_seq = self.watermark

    def pass_over(self, watermark: int) -> None:
        """The ledger has the facts up to `watermark` now: they are its rows'."""
        self.watermark = watermark
        self.last_seq = max(watermark, self.last_seq)
        self.fresh = []
        over = list(itertools.takewhile(watermark.__ge__, self.facts))
        gone = [self.facts.pop(seq) for seq in over]
        self._sum(gone, -1)
        users, devices = self.users, self.devices
        for _, kind, _, _, user_id, device_id, request_id in gone:
            if kind == "g":
                if len(users[user_id]) == 1:
                    del users[user_id]
                else:
                    rest = list(users[user_id])
                    rest.remove(request_id)
                    users[user_id] = tuple(rest)
                if device_id:
                    devices[device_id] -= 1
                    if not devices[device_id]:
                        del devices[device_id]
            else:
                self._back(user_id, device_id, -1)

    def take(self, entries: Iterable[Entry], seq: int) -> None:
        """Fold entries in their order, as far as `seq`."""
        taken: list[Waiting] = []
        for entry in entries:
            if entry.last_seq <= self.last_seq or entry.last_seq > seq:
                continue
            try:
                found = _unfold(entry)
            except ValueError as error:
                subject = f"entry {entry.last_seq}"
                self.torn.append(Finding.of(Damage.TORN_ENTRY, subject, str(error)[:200]))
                continue
            new = found
            if found[0].seq <= self.last_seq:
                new = [fact for fact in found if fact.seq > self.last_seq]
            if new[0].seq > self.last_seq + 1:
                self.gaps.append((self.last_seq + 1, new[0].seq - 1))
            self.last_seq = entry.last_seq
            taken += new
        self._sum(taken, 1)
        facts, users, devices = self.facts, self.users, self.devices
        for fact in taken:
            seq_, kind, _, _, user_id, device_id, request_id = fact
            facts[seq_] = fact
            if kind == "g":
                if user_id in users:
                    if request_id in users[user_id]:
                        self.twice.add(user_id)
                    users[user_id] += (request_id,)
                else:
                    users[user_id] = (request_id,)
                if device_id:
                    devices[device_id] = devices.get(device_id, 0) + 1
            else:
                self._back(user_id, device_id, 1)
        self.fresh += taken

    def end(self, seq: int) -> None:
        """All entries are taken: what lacks up to `seq` is a gap."""
        if seq > self.last_seq:
            self.gaps.append((self.last_seq + 1, seq))
            self.last_seq = seq

    def _back(self, user_id: str, device_id: str, times: int) -> None:
        """A return of this user, on this device, waits or waits no more."""
        for counted, name in ((self.users_back, user_id), (self.devices_back, device_id)):
            counted[name] += times
            if not counted[name]:
                del counted[name]

    def _sum(self, facts: Sequence[Waiting], times: int) -> None:
        for (number, kind), count in Counter(map(_round_and_kind, facts)).items():
            one, counted = self.sums.get(number, Sum()), times * count
            self.sums[number] = one.plus(counted, 0) if kind == "g" else one.plus(0, counted)


_round_and_kind = attrgetter("round", "kind")


def _unfold(entry: Entry) -> list[Waiting]:
    """The facts of an entry. Raises ValueError where it does not have the form of grab.lua."""
    if not isinstance(entry, OutboxEntry):
        raise ValueError(entry.why)  # noqa: TRY004 (torn is torn, whoever noticed)
    if "\0" in entry.lines:
        raise ValueError("holds a NUL")
    lines = entry.lines.split(";")
    if entry.first_seq + len(lines) - 1 != entry.last_seq:
        raise ValueError(f"{len(lines)} facts for seqs {entry.first_seq}-{entry.last_seq}")
    found = []
    for seq, line in enumerate(lines, entry.first_seq):
        kind, serial, number, user_id, device_id, request_id = line.split(",")
        if kind not in ("g", "r"):
            raise ValueError(f"kind {kind!r}")
        fact = (seq, kind, int(serial), int(number), user_id, device_id, request_id)
        if not (0 < fact[2] < NUMBER_MAX and 0 < fact[3] < NUMBER_MAX):
            raise ValueError("a serial or a round is absurd")
        # Waiting(*fact) takes 0.25 µs longer; while much waits this is the dearest part of the
        # live audit, and that a fourth of the worker's CPU
        found.append(tuple.__new__(Waiting, fact))
    return found


def read_holder(entry: str) -> list[Held]:
    """The grants of a holder's entry. Raises ValueError on another form."""
    held = []
    for part in entry.split(";")[:-1]:
        serial, seq, number, state, request_id = part.split(",", 4)
        one = Held(int(serial), int(seq), int(number), state, request_id)
        if not (0 < one.serial < NUMBER_MAX and 0 < one.seq < NUMBER_MAX):
            raise ValueError("a serial or a seq is absurd")
        held.append(one)
    return held


def total(*parts: Sums) -> Sums:
    """Sums of several sources added up."""
    added: Sums = {}
    for part in parts:
        for number, one in part.items():
            added[number] = added.get(number, Sum()).plus(*one)
    return added


def check_quotas(sums: Sums, quotas: Mapping[int, int]) -> list[Finding]:
    """I1 against the ledger's quota: per round, and so in total."""
    findings = []
    for number, one in sorted(sums.items()):
        quota = quotas.get(number, 0)
        if one.out > quota:
            detail = f"{one.out} out, the quota is {quota}"
            findings.append(Finding.of(Damage.OVER_QUOTA, f"round {number}", detail))
    return findings


def check_counters(counters: Mapping[int, Counters]) -> list[Finding]:
    """I6 on Redis' own numbers of one moment."""
    findings = []
    for number, c in sorted(counters.items()):
        off = c.left + c.granted - c.returned - c.quota
        if off:
            detail = f"quota {c.quota}, left {c.left}, granted {c.granted}, returned {c.returned}"
            findings.append(
                Finding.of(Damage.LEFT_OFF, f"round {number}", f"{detail}: off by {off:+d}")
            )
    return findings


def check_facts_counted(sums: Sums, counters: Mapping[int, Counters], unseen: int) -> list[Finding]:
    """The counters against the facts. `unseen` facts have no row (dead letters): any round's."""
    findings = []
    missing = unseen
    for number in sorted({*sums, *counters}):
        one, c = sums.get(number, Sum()), counters.get(number, Counters(0, 0, 0, 0))
        short = (c.granted - one.granted) + (c.returned - one.returned)
        if (one.granted, one.returned) == (c.granted, c.returned):
            continue
        if 0 < short <= missing:
            missing -= short
            continue
        detail = (
            f"granted {c.granted}, by the facts {one.granted};"
            f" returned {c.returned}, by the facts {one.returned}"
        )
        findings.append(Finding.of(Damage.COUNTER_OFF, f"round {number}", detail))
    return findings


def check_quotas_agree(
    quotas: Mapping[int, int], counters: Mapping[int, Counters]
) -> list[Finding]:
    """The quota that Redis sells from against the ledger's, where both have the same version."""
    return [
        Finding.of(
            Damage.QUOTA_DIFFERS, f"round {number}", f"Redis {c.quota}, ledger {quotas.get(number)}"
        )
        for number, c in sorted(counters.items())
        if c.quota != quotas.get(number)
    ]


def check_rows_above(rows: Sequence[Row], outbox: Outbox, seq: int, serial: int) -> list[Finding]:
    """Rows above the watermark against the outbox, which holds every fact there."""
    findings = []
    for row in rows:
        fact = outbox.facts.get(row.seq)
        if row.seq > seq or row.serial > serial:
            detail = f"Redis has given serials to {serial} and seqs to {seq}"
            findings.append(Finding.of(Damage.EXTRA_ROW, f"serial {row.serial}", detail))
        elif fact is None:
            continue  # a gap of the outbox; named as such
        elif fact.kind != "g" or fact.serial != row.serial:
            detail = f"seq {row.seq} is serial {fact.serial}, {fact.kind}"
            findings.append(Finding.of(Damage.EXTRA_ROW, f"serial {row.serial}", detail))
        elif (fact.user_id, fact.request_id) != (row.user_id, row.request_id):
            detail = f"ledger: {row.user_id}, outbox: {fact.user_id}"
            findings.append(Finding.of(Damage.WRONG_USER, f"serial {row.serial}", detail))
    return findings[:FINDINGS_MAX]


def check_returned_above(rows: Sequence[Row], outbox: Outbox, seq: int) -> list[Finding]:
    """The same of rows whose return is above the watermark."""
    findings = []
    for row in rows:
        fact = outbox.facts.get(row.returned_seq)
        if row.returned_seq > seq:
            detail = f"returned by seq {row.returned_seq}, Redis has given {seq}"
        elif fact is None or (fact.kind, fact.serial) == ("r", row.serial):
            continue
        else:
            detail = f"seq {row.returned_seq} is serial {fact.serial}, {fact.kind}"
        findings.append(Finding.of(Damage.RETURN_DIFFERS, f"serial {row.serial}", detail))
    return findings[:FINDINGS_MAX]


def check_row(row: Row, entry: str) -> bool:
    """Whether the holder's entry of the row's user has this very grant."""
    want = (row.serial, row.seq, row.round, row.request_id)
    try:
        return any((h.serial, h.seq, h.round, h.request_id) == want for h in read_holder(entry))
    except ValueError:
        return False


def name_unmatched(
    rows: Mapping[int, Row], grants: Mapping[int, str], doubled: Collection[int]
) -> list[Finding]:
    """Ledger rows and holders' grants (serial → user) that found no counterpart, by name.

    A row alone is too much where its seq is `doubled`; else it is the holder that is lost.
    """
    findings = []
    for serial in sorted({*rows, *grants})[:FINDINGS_MAX]:
        row, user = rows.get(serial), grants.get(serial)
        if row is None:
            damage, detail = Damage.MISSING_ROW, f"granted to {user}"
        elif user == row.user_id:
            damage, detail = Damage.ROW_DIFFERS, f"of user {user}"
        elif user is not None:
            damage, detail = Damage.WRONG_USER, f"ledger: {row.user_id}, Redis: {user}"
        elif row.seq in doubled:
            damage, detail = Damage.EXTRA_ROW, f"of user {row.user_id}, seq {row.seq}"
        else:
            damage, detail = Damage.NOT_A_HOLDER, f"user {row.user_id}"
        findings.append(Finding.of(damage, f"serial {serial}", detail))
    return findings


def check_entry(user_id: str, held: Sequence[Held], per_user: int) -> list[Finding]:
    """I2 and I3 inside one holder's entry."""
    findings = []
    holding = sum(1 for h in held if h.state == "g")
    if holding > per_user:
        detail = f"holds {holding} by Redis, may hold {per_user}"
        findings.append(Finding.of(Damage.USER_LIMIT, f"user {user_id}", detail))
    if len({h.request_id for h in held}) != len(held):
        findings.append(Finding.of(Damage.DOUBLE_REQUEST, f"user {user_id}", "in Redis"))
    return findings
