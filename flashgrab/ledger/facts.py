"""Writing to the ledger: rows, offsets, counts and dead letters, all in one transaction.

Offsets move by compare-and-set on what they were, so of two workers that hold the same records
one transaction fails (StaleWriter) and leaves nothing behind.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from flashgrab.errors import LedgerUnavailable, StaleWriter
from flashgrab.events import Fact
from flashgrab.ledger import closed
from flashgrab.ledger.closed import CLOSED_EPOCH
from flashgrab.ledger.letters import Letter, add_letters
from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

CONFLICT = "CONFLICT"
UNKNOWN_GRANT = "UNKNOWN_GRANT"


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition is read on, and the fingerprint of the record before (b"" at 0)."""

    next_offset: int
    fingerprint: bytes


BEGINNING = Position(0, b"")


@dataclass(frozen=True, slots=True)
class Move:
    """One partition's offset: what it must be still, and what it becomes."""

    partition: int
    before: Position
    after: Position


class Grant(NamedTuple):
    """A fact, granted or returned, of good form in every field, and the message it came in."""

    fact: Fact
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Written:
    """What one transaction added: rows, returns, and dead letters by reason, repeats not counted.

    `repeats`: grants that the ledger had already.
    """

    rows: int
    returns: int
    repeats: int
    dead: Mapping[str, int]


_COLUMNS = (
    *("campaign_id", "serial", "seq", "user_id", "device_id"),
    *("round", "request_id", "epoch", "granted_at"),
)

# Columns come as joined text: asyncpg takes 0.6 to 1.2 µs of our CPU an element of an array, this
# 0.1 to 0.2. No form of an id has a comma; a leading one, cut off again, keeps "" an element.
_ADD_ROWS = """
WITH added AS (
    INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round, request_id, epoch,
                         granted_at)
    SELECT * FROM unnest(
        (string_to_array($1, ','))[2:], (string_to_array($2, ','))[2:]::bigint[],
        (string_to_array($3, ','))[2:]::bigint[], (string_to_array($4, ','))[2:],
        (string_to_array($5, ','))[2:], (string_to_array($6, ','))[2:]::integer[],
        (string_to_array($7, ','))[2:], (string_to_array($8, ','))[2:]::bigint[],
        (string_to_array($9, ','))[2:]::bigint[])
    ON CONFLICT (campaign_id, serial) DO NOTHING
    RETURNING campaign_id, round
)
SELECT campaign_id, round, count(*) AS rows FROM added GROUP BY 1, 2 ORDER BY 1, 2
"""

_serial = attrgetter("serial")
_round = attrgetter("campaign_id", "round")

_COUNT = """
UPDATE rounds SET granted = granted + $3, returned = returned + $4
WHERE campaign_id = $1 AND number = $2
"""

_GIVE_BACK = """
WITH given AS (
    UPDATE coupons c SET returned_seq = f.seq, state = 'RETURNED'
    FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::integer[])
         AS f(campaign_id, serial, seq, user_id, request_id, round)
    WHERE c.campaign_id = f.campaign_id AND c.serial = f.serial AND c.user_id = f.user_id
      AND c.request_id = f.request_id AND c.round = f.round
      AND c.returned_seq IS NULL AND c.state IN ('UNUSED', 'RETURNED')
    RETURNING c.campaign_id, c.round
)
SELECT campaign_id, round, count(*) AS returns FROM given GROUP BY 1, 2
"""

_NOT_GIVEN_BACK = """
SELECT f.n, c.user_id, c.request_id, c.round, c.state, c.returned_seq
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::integer[])
     WITH ORDINALITY AS f(campaign_id, serial, seq, user_id, request_id, round, n)
LEFT JOIN coupons c ON c.campaign_id = f.campaign_id AND c.serial = f.serial
WHERE c.returned_seq IS DISTINCT FROM f.seq OR c.user_id <> f.user_id
   OR c.request_id <> f.request_id OR c.round <> f.round
"""

_CONFLICTS = """
SELECT f.n, c.user_id, c.request_id, c.epoch, c.seq
FROM unnest(
        (string_to_array($1, ','))[2:], (string_to_array($2, ','))[2:]::bigint[],
        (string_to_array($3, ','))[2:]::bigint[], (string_to_array($4, ','))[2:],
        (string_to_array($5, ','))[2:], (string_to_array($6, ','))[2:]::bigint[])
     WITH ORDINALITY AS f(campaign_id, serial, seq, user_id, request_id, epoch, n)
JOIN coupons c ON c.campaign_id = f.campaign_id AND c.serial = f.serial
WHERE c.user_id <> f.user_id OR c.request_id <> f.request_id OR c.epoch <> f.epoch
   OR c.seq <> f.seq
"""

_MOVE = """
UPDATE offsets o SET next_offset = m.after_offset, fingerprint = m.after_mark
FROM unnest($2::integer[], $3::bigint[], $4::bytea[], $5::bigint[], $6::bytea[])
     AS m(partition, before_offset, before_mark, after_offset, after_mark)
WHERE o.topic = $1 AND o.partition = m.partition
  AND o.next_offset = m.before_offset AND o.fingerprint = m.before_mark
"""


async def write(
    pool: Pool,
    topic: str,
    moves: Sequence[Move],
    grants: Sequence[Grant],
    letters: Sequence[Letter],
    at_ms: int,
    *,
    fresh: bool = True,
    on_sending: Callable[[], object],
    before_commit: Callable[[], Awaitable[None]],
) -> Written:
    """Everything of one round, or nothing. From `on_sending` on PostgreSQL does the work.

    `fresh` grants are expected to be new: they are copied, at less than half the cost; where the
    ledger has one of them all the same, everything is rolled back and written in the other way.

    Raises StaleWriter where an offset is no longer what `moves` says, LedgerUnavailable where
    PostgreSQL is away (then it may have committed: writing again adds nothing twice).
    """
    for add_rows in (_copy_rows, _add_rows) if fresh else (_add_rows,):
        try:
            async with pool.transaction() as connection:
                await _move(connection, topic, moves)
                on_sending()
                rows, back, conflicts = await _add_all(connection, grants, add_rows)
                dead = [*letters, *conflicts]
                reasons = await add_letters(connection, dead, at_ms) if dead else {}
                await before_commit()
            added = _sum(rows)
            repeats = sum(grant.fact.event == "grab.granted" for grant in grants) - added
            return Written(added, _sum(back), repeats, reasons)
        except asyncpg.DeadlockDetectedError as error:
            raise LedgerUnavailable(f"PostgreSQL: {error}") from error
        except asyncpg.UniqueViolationError:
            if add_rows is not _copy_rows:
                raise
    raise AssertionError("_add_rows raises no UniqueViolationError")


async def _move(connection: "Connection", topic: str, moves: Sequence[Move]) -> None:
    ordered = sorted(moves, key=lambda m: m.partition)
    done = await connection.execute(
        _MOVE,
        topic,
        [m.partition for m in ordered],
        [m.before.next_offset for m in ordered],
        [m.before.fingerprint for m in ordered],
        [m.after.next_offset for m in ordered],
        [m.after.fingerprint for m in ordered],
    )
    if int(done.rpartition(" ")[2]) != len(ordered):
        raise StaleWriter("another worker has moved the offsets of " + topic)


Counts = Sequence[tuple[str, int, int]]
"""(campaign, round, facts)."""
AddRows = Callable[["Connection", Sequence[Grant]], Awaitable[tuple[Counts, list[Letter]]]]


def _sum(counts: Counts) -> int:
    return sum(facts for _, _, facts in counts)


async def _copy_rows(
    connection: "Connection", grants: Sequence[Grant]
) -> tuple[Counts, list[Letter]]:
    """Rows that are all new. Raises UniqueViolationError where one is not.

    COPY needs no look-up of conflicts, no confirmation of each row and one WAL record a page: 13.8
    instead of 34 µs of PostgreSQL a row. In order of serials, because then neighbours meet the
    same leaves of the indexes: 13.8 instead of 19.1. No form of an id has a tab or a backslash.
    """
    facts = sorted([g.fact for g in grants], key=_serial)
    lines = [
        f"{f.campaign_id}\t{f.serial}\t{f.seq}\t{f.user_id}\t{f.device_id}\t{f.round}"
        f"\t{f.request_id}\t{f.epoch}\t{f.at_ms}\n"
        for f in facts
    ]
    # asyncpg takes a buffer, which its stubs do not say; bytes it would take for a path
    data: Any = memoryview("".join(lines).encode())
    await connection.copy_to_table("coupons", source=data, columns=_COLUMNS, format="text")
    return [(*of, rows) for of, rows in Counter(map(_round, facts)).items()], []


async def _count(connection: "Connection", granted: Counts, returned: Counts) -> None:
    """Into the rounds, in the one order of row locks that every worker has."""
    counts: dict[tuple[str, int], list[int]] = {}
    for place, some in enumerate((granted, returned)):
        for campaign_id, number, facts in some:
            counts.setdefault((campaign_id, number), [0, 0])[place] = facts
    if counts:
        await connection.executemany(_COUNT, [(*of, *n) for of, n in sorted(counts.items())])


async def add(connection: "Connection", grants: Sequence[Grant]) -> list[Letter]:
    """Facts in the caller's transaction; what is there already is no error. Returns conflicts."""
    return (await _add_all(connection, grants, _add_rows))[2]


async def _add_all(
    connection: "Connection", grants: Sequence[Grant], add_rows: AddRows
) -> tuple[Counts, Counts, list[Letter]]:
    """Grants, then returns, which are of grants of before or of now: what of both was new.

    What comes too late, from an epoch that was closed without it, is a dead letter.
    """
    late = await closed.late(connection, [grant.fact for grant in grants]) if grants else ()
    letters = [_late(grants[n]) for n in sorted(late)]
    if late:
        grants = [grant for n, grant in enumerate(grants) if n not in late]
    granted = [grant for grant in grants if grant.fact.event == "grab.granted"]
    returned = [grant for grant in grants if grant.fact.event != "grab.granted"]
    rows, conflicts = await add_rows(connection, granted) if granted else ([], [])
    back, refused = await _give_back(connection, returned) if returned else ([], [])
    await _count(connection, rows, back)
    return rows, back, [*letters, *conflicts, *refused]


def _late(grant: Grant) -> Letter:
    fact = grant.fact
    detail = f"serial {fact.serial} of epoch {fact.epoch}, which a rebuild has closed without it"
    return Letter(CLOSED_EPOCH, detail, grant.key, grant.value, fact.campaign_id, fact.seq)


async def _add_rows(
    connection: "Connection", grants: Sequence[Grant]
) -> tuple[Counts, list[Letter]]:
    facts = [g.fact for g in grants]
    campaigns = _column([f.campaign_id for f in facts])
    serials = _column([f.serial for f in facts])
    seqs = _column([f.seq for f in facts])
    users = _column([f.user_id for f in facts])
    devices = _column([f.device_id for f in facts])
    rounds = _column([f.round for f in facts])
    requests = _column([f.request_id for f in facts])
    epochs = _column([f.epoch for f in facts])
    times = _column([f.at_ms for f in facts])
    rows = await connection.fetch(
        _ADD_ROWS, campaigns, serials, seqs, users, devices, rounds, requests, epochs, times
    )
    counts = [(row["campaign_id"], row["round"], row["rows"]) for row in rows]
    if _sum(counts) == len(facts):
        return counts, []
    # repeats are the rule after a restart of the relay; a second statement, so that it also sees
    # rows that another worker committed while the INSERT waited for them
    found = await connection.fetch(_CONFLICTS, campaigns, serials, seqs, users, requests, epochs)
    return counts, [_conflict(grants[row["n"] - 1], row) for row in found]


async def _give_back(
    connection: "Connection", returned: Sequence[Grant]
) -> tuple[Counts, list[Letter]]:
    """Returns into the rows of their grants, which are there before: only what is persisted is
    returned. A repeat changes nothing; one that does not fit its row is a dead letter."""
    facts = [grant.fact for grant in returned]
    columns = (
        [f.campaign_id for f in facts],
        [f.serial for f in facts],
        [f.seq for f in facts],
        [f.user_id for f in facts],
        [f.request_id for f in facts],
        [f.round for f in facts],
    )
    rows = await connection.fetch(_GIVE_BACK, *columns)
    counts = [(row["campaign_id"], row["round"], row["returns"]) for row in rows]
    if _sum(counts) == len(facts):
        return counts, []
    found = await connection.fetch(_NOT_GIVEN_BACK, *columns)
    return counts, [_not_given_back(returned[row["n"] - 1], row) for row in found]


def _not_given_back(grant: Grant, row: asyncpg.Record) -> Letter:
    fact = grant.fact
    if row["user_id"] is None:
        reason, detail = UNKNOWN_GRANT, f"the ledger has no serial {fact.serial} to return"
    else:
        reason, detail = (
            CONFLICT,
            (
                f"serial {fact.serial} is in the ledger with user {row['user_id']}, request"
                f" {row['request_id']}, round {row['round']}, {row['state']}, returned by seq"
                f" {row['returned_seq']}"
            ),
        )
    return Letter(reason, detail, grant.key, grant.value, fact.campaign_id, fact.seq)


def _column(values: Sequence[str | int]) -> str:
    """The values of one column as _ADD_ROWS takes them."""
    return "," + ",".join(map(str, values))


def _conflict(grant: Grant, row: asyncpg.Record) -> Letter:
    fact = grant.fact
    detail = (
        f"serial {fact.serial} is in the ledger with user {row['user_id']}, request"
        f" {row['request_id']}, epoch {row['epoch']}, seq {row['seq']}"
    )
    return Letter(CONFLICT, detail, grant.key, grant.value, fact.campaign_id, fact.seq)


async def positions(pool: Pool, topic: str, partitions: Sequence[int]) -> dict[int, Position]:
    """Where each partition is read on; a partition that is not known yet is put at BEGINNING."""
    async with pool.transaction() as connection:
        await connection.execute(
            "INSERT INTO offsets SELECT $1, p, 0, '' FROM unnest($2::integer[]) AS p"
            " ON CONFLICT DO NOTHING",
            topic,
            list(partitions),
        )
        rows = await connection.fetch(
            "SELECT partition, next_offset, fingerprint FROM offsets"
            " WHERE topic = $1 AND partition = ANY($2::integer[])",
            topic,
            list(partitions),
        )
    return {r["partition"]: Position(r["next_offset"], bytes(r["fingerprint"])) for r in rows}


async def reset(pool: Pool, topic: str, partition: int, before: Position) -> None:
    """Back to BEGINNING: the topic has a new incarnation. Raises StaleWriter as `write` does."""
    async with pool.transaction() as connection:
        await _move(connection, topic, [Move(partition, before, BEGINNING)])


@dataclass(frozen=True, slots=True)
class CampaignKnown:
    """What persist checks a fact against."""

    epoch: int
    rounds: frozenset[int]


async def known_campaigns(pool: Pool, campaign_ids: Sequence[str]) -> dict[str, CampaignKnown]:
    """Those of the campaigns that the ledger has."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT c.campaign_id, c.epoch, array_agg(r.number) AS rounds FROM campaigns c"
            " JOIN rounds r USING (campaign_id) WHERE c.campaign_id = ANY($1::text[])"
            " GROUP BY 1, 2",
            list(campaign_ids),
        )
    return {r["campaign_id"]: CampaignKnown(r["epoch"], frozenset(r["rounds"])) for r in rows}
