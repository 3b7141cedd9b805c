"""The dead table for its operator: what is in it, and letters that are tried once more.

Rows stay for good; a letter that is settled carries the time of that (`retried_ms`).
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import asyncpg

from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import facts
from flashgrab.ledger.closed import CLOSED_EPOCH
from flashgrab.ledger.facts import Grant
from flashgrab.ledger.letters import Letter, storable
from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

ID_DIGITS = 12
"""Hex digits of the digest that name a letter where it has no seq, and in lists."""
LISTED_MAX = 1000
RETRIED_MAX = 500
"""Letters of one transaction."""

Outcome = Literal["STORED", "THERE", "VOID", "NO_FACT", "BEFORE", "REFUSED"]
"""STORED: the ledger has its fact now (or had it already). THERE: it cannot be read, but the
ledger has the fact of its seq from another message. VOID: a rebuild gave it up.
NO_FACT: it names no seq, so it accounts for none; had it been a fact, that would be a hole below
the watermark, and sent again. BEFORE: settled by an earlier retry. REFUSED: it stays, for the
reason that it has now."""

UNREADABLE = frozenset({"WRONG_FORM", "UNKNOWN_EVENT"})
"""Reasons of a message that says which fact it should have been, and not what that was."""

Decide = Callable[[Letter], Awaitable[Grant | Letter]]
"""The checks of a message, against its form and the ledger."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row of the dead table; times in ms, None where that has not happened."""

    digest: bytes
    letter: Letter
    at_ms: int
    published_ms: int | None
    retried_ms: int | None

    @property
    def letter_id(self) -> str:
        return self.digest.hex()[:ID_DIGITS]


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a letter, which is shown as it is now."""

    dead: DeadLetter
    outcome: Outcome


_COLUMNS = "digest, campaign_id, seq, reason, detail, key, value, at_ms, published_ms, retried_ms"

_FIND = f"""
SELECT {_COLUMNS} FROM dead
WHERE ($1::text IS NULL OR campaign_id = $1) AND ($2 OR retried_ms IS NULL)
  AND ($3::bigint[] IS NULL OR seq = ANY($3) OR encode(digest, 'hex') ^@ ANY($4::text[]))
ORDER BY at_ms, digest LIMIT $5
"""  # noqa: S608 (constants only)

_LOCK = f"""
SELECT {_COLUMNS} FROM dead WHERE digest = ANY($1::bytea[]) ORDER BY digest FOR UPDATE
"""  # noqa: S608 (constants only)

_HAS_SEQ = """
SELECT EXISTS (SELECT FROM coupons WHERE campaign_id = $1 AND seq = $2)
    OR EXISTS (SELECT FROM coupons WHERE campaign_id = $1 AND returned_seq = $2)
"""

_IS_VOID = """
SELECT EXISTS (SELECT FROM voids WHERE campaign_id = $1 AND from_seq <= $2 AND to_seq >= $2)
"""


async def find(
    pool: Pool,
    campaign_id: str | None = None,
    *,
    settled: bool = False,
    seqs: Sequence[int] | None = None,
    ids: Sequence[str] = (),
    most: int = LISTED_MAX,
) -> list[DeadLetter]:
    """Letters that wait, with `settled` the others as well, oldest first; where `seqs` is given
    those with one of the seqs, or whose id begins with one of `ids`."""
    async with pool.connection() as connection:
        rows = await connection.fetch(_FIND, campaign_id, settled, seqs, list(ids), most)
    return [_dead_letter(row) for row in rows]


async def waiting(pool: Pool, campaign_id: str | None = None) -> int:
    """How many wait."""
    async with pool.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM dead WHERE retried_ms IS NULL"
                " AND ($1::text IS NULL OR campaign_id = $1)",
                campaign_id,
            )
        )


async def retry(
    pool: Pool, digests: Sequence[bytes], decide: Decide, at_ms: int, *, store_only: bool = False
) -> list[Tried]:
    """These letters once more through all checks: rows, counts and marks in one transaction.

    With `store_only` nothing settles a letter but a row. One that stays gets the reason of now.
    Raises LedgerUnavailable (then it may have committed: again it changes nothing more).
    """
    try:
        async with pool.transaction() as connection:
            rows = await connection.fetch(_LOCK, list(digests))
            found = [_dead_letter(row) for row in rows]
            return await _retry(connection, found, decide, at_ms, store_only=store_only)
    except asyncpg.DeadlockDetectedError as error:  # a worker was writing the same rows
        raise LedgerUnavailable(f"PostgreSQL: {error}") from error


async def _retry(
    connection: "Connection",
    found: Sequence[DeadLetter],
    decide: Decide,
    at_ms: int,
    *,
    store_only: bool,
) -> list[Tried]:
    grants, refused = {}, {}
    for dead in found:
        if dead.retried_ms is None:
            decided = await decide(dead.letter)
            if isinstance(decided, Letter):
                refused[dead.digest] = decided
            else:
                grants[dead.digest] = decided
    if grants:
        conflicts = await facts.add(connection, list(grants.values()))
        refused |= {letter.digest: letter for letter in conflicts}
    tried = []
    for dead in found:
        outcome: Outcome = "STORED"
        if dead.retried_ms is not None:
            outcome = "BEFORE"
        elif (letter := refused.get(dead.digest)) is not None:
            outcome = "REFUSED"
            if not store_only:
                outcome = await _without_a_row(connection, letter, read=dead.digest in grants)
        tried.append(await _mark(connection, dead, refused.get(dead.digest), outcome, at_ms))
    return tried


async def _without_a_row(connection: "Connection", letter: Letter, *, read: bool) -> Outcome:
    """Whether nothing is missing without it: it has no seq, that is void, or is there although the
    letter cannot be read."""
    if letter.campaign_id is None or letter.seq is None:
        return "NO_FACT"
    place = (letter.campaign_id, letter.seq)
    if letter.reason == CLOSED_EPOCH or await connection.fetchval(_IS_VOID, *place):
        return "VOID"
    if not read and letter.reason in UNREADABLE:
        return "THERE" if await connection.fetchval(_HAS_SEQ, *place) else "REFUSED"
    return "REFUSED"


async def _mark(
    connection: "Connection",
    dead: DeadLetter,
    refused: Letter | None,
    outcome: Outcome,
    at_ms: int,
) -> Tried:
    if outcome == "BEFORE":
        return Tried(dead, outcome)
    letter = refused or dead.letter
    retried_ms = None if outcome == "REFUSED" else at_ms
    await connection.execute(
        "UPDATE dead SET retried_ms = $2, reason = $3, detail = $4 WHERE digest = $1",
        dead.digest,
        retried_ms,
        letter.reason,
        storable(letter.detail),
    )
    return Tried(
        DeadLetter(dead.digest, letter, dead.at_ms, dead.published_ms, retried_ms), outcome
    )


def _dead_letter(row: asyncpg.Record) -> DeadLetter:
    letter = Letter(
        row["reason"],
        row["detail"],
        bytes(row["key"]),
        bytes(row["value"]),
        row["campaign_id"],
        row["seq"],
    )
    return DeadLetter(
        bytes(row["digest"]), letter, row["at_ms"], row["published_ms"], row["retried_ms"]
    )
