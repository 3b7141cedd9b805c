"""Dead letters: events that cannot be stored, kept with why, and told to the dead-letter topic."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import TYPE_CHECKING

import asyncpg

from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

DETAIL_MAX = 500


@dataclass(frozen=True, slots=True)
class Letter:
    """An event that cannot be stored. `campaign_id` and `seq` are known where they can be read."""

    reason: str
    detail: str
    key: bytes
    value: bytes
    campaign_id: str | None = None
    seq: int | None = None

    @property
    def digest(self) -> bytes:
        """The same for the same message, however often it comes."""
        size = len(self.key).to_bytes(8, "big")
        return blake2b(size + self.key + self.value, digest_size=32).digest()


_ADD_DEAD = """
INSERT INTO dead (digest, campaign_id, seq, reason, detail, key, value, at_ms)
SELECT d.*, $8 FROM unnest($1::bytea[], $2::text[], $3::bigint[], $4::text[], $5::text[],
                           $6::bytea[], $7::bytea[]) AS d
ON CONFLICT (digest) DO NOTHING
RETURNING reason
"""


async def add_letters(
    connection: "Connection", letters: Sequence[Letter], at_ms: int
) -> dict[str, int]:
    """In the caller's transaction; how many were new, by reason."""
    rows = await connection.fetch(
        _ADD_DEAD,
        [letter.digest for letter in letters],
        [letter.campaign_id for letter in letters],
        [letter.seq for letter in letters],
        [letter.reason for letter in letters],
        [storable(letter.detail) for letter in letters],
        [letter.key for letter in letters],
        [letter.value for letter in letters],
        at_ms,
    )
    reasons: dict[str, int] = {}
    for row in rows:
        reasons[row["reason"]] = reasons.get(row["reason"], 0) + 1
    return reasons


def storable(text: str) -> str:
    """What PostgreSQL takes as text: no NUL, no half characters, bounded."""
    return text.replace("\0", "?").encode("utf-8", "replace").decode()[:DETAIL_MAX]


@dataclass(frozen=True, slots=True)
class Unpublished:
    """A dead letter that the dead-letter topic does not have yet."""

    digest: bytes
    letter: Letter
    at_ms: int


async def unpublished(pool: Pool, most: int) -> list[Unpublished]:
    """Dead letters that wait for the dead-letter topic, oldest first, at most `most`."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT digest, campaign_id, seq, reason, detail, key, value, at_ms FROM dead"
            " WHERE published_ms IS NULL ORDER BY at_ms LIMIT $1",
            most,
        )
    return [
        Unpublished(
            row["digest"],
            Letter(
                row["reason"],
                row["detail"],
                row["key"],
                row["value"],
                row["campaign_id"],
                row["seq"],
            ),
            row["at_ms"],
        )
        for row in rows
    ]


async def mark_published(pool: Pool, digests: Sequence[bytes], at_ms: int) -> None:
    """Note that the dead-letter topic has these."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE dead SET published_ms = $2 WHERE digest = ANY($1::bytea[])",
            list(digests),
            at_ms,
        )
