"""Compares what clients were told with what is there: the promises, in three-valued logic.

A grab that was answered has happened, one that was refused has not, an unknown one may or may not
have. Shares nothing with the scripts, the worker and the audit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from tests.faults.history import Answer, Ask, Count, Fact, Final, History, Redis

EACH_MAX = 20
"""Violations of one kind that are worth naming."""
AFTER_REPLAY = {
    *("OFFLINE", "ENDED", "PAUSED", "NOT_STARTED", "USER_LIMIT", "DEVICE_LIMIT", "SOLD_OUT"),
}
"""Refusals that a key which has won can never get (contract, precedence); a pass that is not valid
may keep anybody out."""
MEMORY_MS = 2000
"""How old a gateway's memory of a sold-out round may be (docs/decisions.md, "What memory says is as
old as what was heard"): so long after a restock it may refuse a user whom another gateway has just
granted a coupon. Such refusals are counted (`stale_refusals`), and none may come later."""


class Kind(Enum):
    """Everything that can be wrong: the promise, and what it means."""

    OVERSOLD = ("I1", "a round granted more than its quota")
    QUOTA_DIFFERS = ("I1", "Redis has another quota than the ledger")
    OUTSIDE_WINDOW = ("I1", "granted before the round opened or after it closed")
    USER_OVER_LIMIT = ("I2", "a user holds more than his limit")
    DEVICE_OVER_LIMIT = ("I2", "a device holds more than its limit")
    KEY_TWICE = ("I3", "one key took two coupons")
    TWO_SERIALS = ("I3", "one key was told two serials")
    WINNER_REFUSED = ("I3", "a key that had won was refused later")
    NOT_FOUND = ("I3", "told that there is no such campaign, which every gateway had known")
    RETURN_UNTOLD = ("I3", "told RETURNED too early, or too late still that it is held")
    DISAGREE = ("I3", "after healing, gateways say different things of one key")
    SEQ_HOLE = ("I4", "seqs are missing between 1 and the last one")
    SEQ_TWICE = ("I4", "two facts have one seq")
    NOT_IN_OUTBOX = ("I4", "a fact above the watermark is not in the outbox")
    MISSING_ROW = ("I5", "Redis granted it, the ledger does not have it")
    EXTRA_ROW = ("I5", "the ledger has it, Redis never granted it")
    WRONG_ROW = ("I5", "ledger and Redis name different owners")
    DOUBLE_ROW = ("I5", "the ledger has one serial twice")
    RETURN_DIFFERS = ("I5", "returned in the ledger or in Redis, not in both")
    DEAD_LETTER = ("I5", "an event was not stored")
    UNBALANCED = ("I6", "quota is not left + granted - returned")
    MISCOUNTED = ("I6", "the counters are not what was granted")
    RETURN_LOST = ("I7", "a return was acknowledged, and the coupon is held")
    NEVER_RETURNED = ("I9", "a coupon is returned that nobody gave back")
    ACK_LOST = ("I7", "acknowledged, and nowhere to be found")
    CROSSED = ("I9", "a serial was told to somebody who does not own it")
    NEVER_ASKED = ("I9", "a coupon for a key that nobody sent")
    REFUSED_BUT_TAKEN = ("I9", "every attempt was refused, and yet it took a coupon")

    @property
    def promise(self) -> str:
        return self.value[0]


@dataclass(frozen=True, slots=True)
class Violation:
    """One thing that is wrong."""

    kind: Kind
    detail: str

    def __str__(self) -> str:
        return f"{self.kind.promise} {self.kind.name}: {self.kind.value[1]}: {self.detail}"


def check(history: History, final: Final) -> list[Violation]:
    """Everything that is wrong, at most EACH_MAX of a kind."""
    seen: Counter[Kind] = Counter()
    found = []
    for violation in _all(history, final):
        seen[violation.kind] += 1
        if seen[violation.kind] <= EACH_MAX:
            found.append(violation)
    return found


def _all(history: History, final: Final) -> Iterator[Violation]:
    owners = _owners(final)
    gone = lost(history, final)
    forgiven = gone if len(gone) <= final.lost_max else frozenset()
    yield from _limits(final, owners)
    yield from _answers(history, owners, forgiven)
    yield from _takers(history, owners)
    yield from _returns(history, owners)
    yield from _rows(final)
    for sample in history.samples:
        counts = dict(enumerate(sample.rounds, 1))
        facts = sample.seq - _void(final, sample.epoch, sample.seq)
        yield from _balance(counts, facts, f"at {sample.at_ms} ms")
    if final.redis is not None:
        yield from _seqs(final, final.redis)
        yield from _same(final, final.redis)
        facts = final.redis.seq - _void(final, final.redis.epoch, final.redis.seq)
        yield from _balance(final.redis.rounds, facts, "at the end")
        yield from _quotas(final, final.redis)


def _owners(final: Final) -> dict[int, Fact]:
    """Who owns each serial, and whether it came back: the ledger says so, and what waits in the
    outbox."""
    facts = {fact.serial: fact for fact in final.ledger}
    if final.redis is not None:
        for fact in final.redis.outbox:
            facts.setdefault(fact.serial, fact)
        for serial, seq in final.redis.returns.items():
            if serial in facts:
                facts[serial] = replace(facts[serial], returned_seq=seq)
    return facts


def lost(history: History, final: Final) -> frozenset[int]:
    """Serials that were acknowledged and are nowhere: what a rebuild may cost, up to its report."""
    owners = _owners(final)
    told = {serial for ask in history.asks for serial in ask.named}
    return frozenset((told | history.acknowledged().keys()) - owners.keys())


def _void(final: Final, epoch: int, seq: int) -> int:
    """Seqs up to this one that were void when this epoch was open."""
    known = [(first, last) for first, last, opened in final.voids if opened <= epoch]
    return sum(max(0, min(last, seq) - first + 1) for first, last in known)


def _limits(final: Final, owners: Mapping[int, Fact]) -> Iterator[Violation]:
    """I1, I2, and I3 where a key took two."""
    per_round = Counter(fact.round for fact in owners.values() if not fact.returned_seq)
    for number, granted in sorted(per_round.items()):
        window = final.rounds.get(number)
        if window is None or granted > window.quota:
            quota = window.quota if window else 0
            yield Violation(Kind.OVERSOLD, f"round {number}: {granted} of {quota}")
    for fact in owners.values():
        window = final.rounds.get(fact.round)
        if window and fact.at_ms and not window.opens_at <= fact.at_ms < window.closes_at:
            yield Violation(Kind.OUTSIDE_WINDOW, f"serial {fact.serial} at {fact.at_ms}")
    for user, held in _most_held(owners.values(), "user").items():
        if held > final.per_user:
            yield Violation(Kind.USER_OVER_LIMIT, f"{user} holds {held}")
    for device, held in _most_held(owners.values(), "device").items():
        if device and 0 < final.per_device < held:
            yield Violation(Kind.DEVICE_OVER_LIMIT, f"{device} holds {held}")
    for (user, key), taken in Counter((f.user, f.key) for f in owners.values()).items():
        if taken > 1:
            yield Violation(Kind.KEY_TWICE, f"{user} {key}: {taken}")


def _most_held(facts: Iterable[Fact], what: str) -> Mapping[str, int]:
    """How many each held at the worst moment, by the order of seqs."""
    moves = []
    for fact in facts:
        moves.append((fact.seq, 1, getattr(fact, what)))
        if fact.returned_seq > 0:
            moves.append((fact.returned_seq, -1, getattr(fact, what)))
    held: Counter[str] = Counter()
    most: Counter[str] = Counter()
    for _, more, name in sorted(moves):
        held[name] += more
        most[name] = max(most[name], held[name])
    return most


def _returns(history: History, owners: Mapping[int, Fact]) -> Iterator[Violation]:
    """What was acknowledged came back, nothing else did, and owners are told so from then on."""
    given = {one.serial: one for one in history.returns}
    for serial, one in given.items():
        if one.done and (fact := owners.get(serial)) is not None and not fact.returned_seq:
            yield Violation(Kind.RETURN_LOST, f"serial {serial} of {fact.user}")
    for serial, fact in owners.items():
        if fact.returned_seq and serial not in given:
            yield Violation(Kind.NEVER_RETURNED, f"serial {serial} of {fact.user}")
    for ask in history.asks:
        if ask.answer is not Answer.OK:
            continue
        back = given.get(ask.serial)
        if ask.state == "RETURNED":
            wrong = back is None or ask.ended_ms < back.began_ms
        else:
            wrong = back is not None and back.done and ask.began_ms > back.ended_ms + MEMORY_MS
        if wrong:
            yield Violation(Kind.RETURN_UNTOLD, f"serial {ask.serial}: {ask.state} to {ask.user}")


def _answers(
    history: History, owners: Mapping[int, Fact], forgiven: frozenset[int]
) -> Iterator[Violation]:
    """I3, I7, I9: what was said is so, and stays so. Who was told a serial that a rebuild gave up
    asks like anybody else."""
    sound = [a for a in history.asks if a.answer is not Answer.OK or a.serial not in forgiven]
    for user_key, asks in _by_key(sound).items():
        told = {ask.serial for ask in asks if ask.answer is Answer.OK}
        if len(told) > 1:
            yield Violation(Kind.TWO_SERIALS, f"{user_key}: {sorted(told)}")
        for ask, stale in _refused_winners(asks):
            if not stale:
                yield Violation(Kind.WINNER_REFUSED, f"{user_key}: {ask.code}")
        told_last = [a for a in asks if a.final and a.answer is not Answer.UNKNOWN]
        said = {(a.answer.value, a.serial, a.state == "RETURNED") for a in told_last}
        if len(said) > 1:
            yield Violation(Kind.DISAGREE, f"{user_key}: {sorted(said)}")
    yield from _serials(history, owners, forgiven)


def _serials(
    history: History, owners: Mapping[int, Fact], forgiven: frozenset[int]
) -> Iterator[Violation]:
    """I7, I9: every serial that was told is the asker's; not even one that a rebuild gave up has
    two owners."""
    first_told: dict[int, str] = {}
    for ask in history.asks:
        if ask.code == "CAMPAIGN_NOT_FOUND":
            yield Violation(Kind.NOT_FOUND, f"{ask.user} at gateway {ask.gateway + 1}")
        for serial in (ask.serial, *ask.named) if ask.answer is Answer.OK else ask.named:
            fact = owners.get(serial)
            if serial in forgiven:
                if first_told.setdefault(serial, ask.user) != ask.user:
                    yield Violation(Kind.CROSSED, f"serial {serial} told to {ask.user}, too")
            elif fact is None:
                yield Violation(Kind.ACK_LOST, f"serial {serial} of {ask.user} {ask.key}")
            elif fact.user != ask.user or (serial == ask.serial and fact.key != ask.key):
                detail = f"serial {serial} told to {ask.user} {ask.key}, is {fact.user} {fact.key}"
                yield Violation(Kind.CROSSED, detail)


def stale_refusals(history: History) -> list[Ask]:
    """Winners who were told SOLD_OUT by another gateway's old memory, within its bound."""
    by_key = _by_key(history.asks).values()
    return [ask for asks in by_key for ask, stale in _refused_winners(asks) if stale]


def _refused_winners(asks: Sequence[Ask]) -> Iterator[tuple[Ask, bool]]:
    """Refusals of a key that began after it had won; whether old memory explains it."""
    wins = [ask for ask in asks if ask.answer is Answer.OK]
    if not wins:
        return
    won_ms = min(ask.ended_ms for ask in wins)
    for ask in asks:
        if ask.code in AFTER_REPLAY and ask.began_ms > won_ms:
            knew = any(w.gateway == ask.gateway and w.ended_ms <= ask.began_ms for w in wins)
            old = ask.code == "SOLD_OUT" and ask.began_ms <= won_ms + MEMORY_MS
            yield ask, old and not knew


def _takers(history: History, owners: Mapping[int, Fact]) -> Iterator[Violation]:
    """I9: each coupon belongs to a key that was sent, and not refused every time."""
    by_key = _by_key(history.asks)
    for fact in owners.values():
        asks = by_key.get((fact.user, fact.key))
        if asks is None:
            yield Violation(Kind.NEVER_ASKED, f"serial {fact.serial} of {fact.user} {fact.key}")
        elif all(ask.answer is Answer.REFUSED for ask in asks):
            yield Violation(Kind.REFUSED_BUT_TAKEN, f"serial {fact.serial} of {fact.user}")


def _rows(final: Final) -> Iterator[Violation]:
    """I5, as far as the ledger alone tells it."""
    for serial, rows in Counter(fact.serial for fact in final.ledger).items():
        if rows > 1:
            yield Violation(Kind.DOUBLE_ROW, f"serial {serial}: {rows} rows")
    for seq in final.dead:
        yield Violation(Kind.DEAD_LETTER, f"seq {seq}")


def _seqs(final: Final, redis: Redis) -> Iterator[Violation]:
    """I4: dense, once each, and in the outbox above the watermark."""
    returned = {f.serial: f.returned_seq for f in final.ledger if f.returned_seq}
    returned.update(redis.returns)
    given = Counter([*(fact.seq for fact in redis.granted), *returned.values()])
    known = [(seq, seq) for seq in set(given) | set(final.dead)]
    known += [(first, last) for first, last, _ in final.voids]
    at = 1
    for first, last in [*sorted(known), (redis.seq + 1, redis.seq + 1)]:
        for seq in range(at, min(first, at + EACH_MAX)):
            yield Violation(Kind.SEQ_HOLE, f"seq {seq}")
        at = max(at, last + 1)
    for seq, facts in given.items():
        if facts > 1:
            yield Violation(Kind.SEQ_TWICE, f"seq {seq}: {facts}")
    waiting = {fact.seq for fact in redis.outbox} | set(redis.returns.values())
    for seq in given:
        if seq > redis.watermark and seq not in waiting:
            yield Violation(Kind.NOT_IN_OUTBOX, f"seq {seq}")


def _same(final: Final, redis: Redis) -> Iterator[Violation]:
    """I5: after the drain the ledger holds exactly what Redis granted."""
    rows = {fact.serial: fact for fact in final.ledger}
    dead = set(final.dead)
    granted = set()
    for fact in redis.granted:
        granted.add(fact.serial)
        row = rows.get(fact.serial)
        if row is None:
            if fact.seq not in dead:
                yield Violation(Kind.MISSING_ROW, f"serial {fact.serial} of {fact.user}")
        elif _name(row) != _name(fact):
            yield Violation(Kind.WRONG_ROW, f"serial {fact.serial}: {_name(row)}, {_name(fact)}")
        back = row is not None and bool(row.returned_seq)
        if bool(fact.returned_seq) != back and fact.serial not in redis.returns:
            detail = f"serial {fact.serial} of {fact.user}, in the ledger: {back}"
            yield Violation(Kind.RETURN_DIFFERS, detail)
    for serial in sorted(rows.keys() - granted):
        yield Violation(Kind.EXTRA_ROW, f"serial {serial} of {rows[serial].user}")
    for number, count in redis.rounds.items():
        counted = sum(fact.round == number for fact in redis.granted)
        gone = sum(fact.round == number and bool(fact.returned_seq) for fact in redis.granted)
        if (count.granted, count.returned) != (counted, gone):
            yield Violation(Kind.MISCOUNTED, f"round {number}: {count}, is {counted} - {gone}")


def _balance(rounds: Mapping[int, Count], seqs: int, when: str) -> Iterator[Violation]:
    """I6, and that every fact of a round has its seq."""
    for number, count in rounds.items():
        if count.quota != count.left + count.granted - count.returned or count.left < 0:
            yield Violation(Kind.UNBALANCED, f"round {number} {when}: {count}")
    facts = sum(count.granted + count.returned for count in rounds.values())
    if facts != seqs:
        yield Violation(Kind.MISCOUNTED, f"{when}: {facts} facts counted, {seqs} seqs")


def _quotas(final: Final, redis: Redis) -> Iterator[Violation]:
    for number, window in final.rounds.items():
        count = redis.rounds.get(number)
        if count is None or count.quota != window.quota:
            yield Violation(Kind.QUOTA_DIFFERS, f"round {number}: {count}, {window.quota}")


def _by_key(asks: Iterable[Ask]) -> Mapping[tuple[str, str], Sequence[Ask]]:
    found: dict[tuple[str, str], list[Ask]] = defaultdict(list)
    for ask in asks:
        found[ask.user, ask.key].append(ask)
    return found


def _name(fact: Fact) -> tuple[int, int, str, str]:
    return fact.seq, fact.round, fact.user, fact.key
