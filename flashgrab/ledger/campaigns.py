"""Campaigns in the ledger, for reading, and how far Redis has followed them.

What changes a campaign is in operations.py. Times are ms since 1970 (UTC).
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flashgrab.ledger.pool import Pool
from flashgrab.model import Status

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Transaction = PoolConnectionProxy[asyncpg.Record]

PAGE_MAX = 200

SELECT = """
    SELECT c.*, coalesce((SELECT json_agg(json_build_object(
               'number', r.number, 'opens_at', r.opens_at, 'closes_at', r.closes_at,
               'quota', r.quota, 'granted', r.granted, 'returned', r.returned) ORDER BY r.number)
             FROM rounds r WHERE r.campaign_id = c.campaign_id), '[]') AS rounds
    FROM campaigns c
"""
"""Campaign and rounds in one statement, hence of one moment."""


@dataclass(frozen=True, slots=True)
class LedgerRound:
    """A round as the ledger has it; granted and returned count the facts that were persisted."""

    number: int
    opens_at: int
    closes_at: int
    quota: int
    granted: int
    returned: int


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as the ledger has it: the target that Redis is brought to.

    `applied_version` is the version that Redis is known to have reached, 0 before the first time.
    A DRAFT has no rounds yet: its times are text in the definition, as written.
    """

    campaign_id: str
    definition: Mapping[str, Any]
    status: Status
    version: int
    applied_version: int
    epoch: int
    per_user: int
    per_device: int
    operation: str
    created_ms: int
    published_ms: int | None
    rounds: tuple[LedgerRound, ...]

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Campaign":
        """From a row of SELECT."""
        fields = dict(row)
        fields["definition"] = json.loads(fields["definition"])
        fields["rounds"] = tuple(LedgerRound(**r) for r in json.loads(fields["rounds"]))
        return cls(**fields)


async def get(pool: Pool, campaign_id: str) -> Campaign | None:
    """One campaign, None where there is none."""
    async with pool.connection() as connection:
        row = await connection.fetchrow(f"{SELECT} WHERE c.campaign_id = $1", campaign_id)
    return Campaign.of(row) if row else None


async def page(pool: Pool, after: str, limit: int) -> list[Campaign]:
    """At most `limit` (≤ PAGE_MAX) campaigns whose ids come after `after`, by id, bytewise."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            f'{SELECT} WHERE c.campaign_id COLLATE "C" > $1'
            ' ORDER BY c.campaign_id COLLATE "C" LIMIT $2',
            after,
            min(limit, PAGE_MAX),
        )
    return [Campaign.of(row) for row in rows]


async def behind(pool: Pool) -> list[str]:
    """Ids of the campaigns that Redis has not caught up with, published ones only."""
    return await _ids(
        pool,
        "SELECT campaign_id FROM campaigns"
        " WHERE status <> 'DRAFT' AND applied_version < version ORDER BY created_ms",
    )


async def applied(pool: Pool) -> list[str]:
    """Ids of all campaigns that Redis has had before, closed ones too."""
    return await _ids(
        pool, "SELECT campaign_id FROM campaigns WHERE applied_version > 0 ORDER BY created_ms"
    )


async def live(pool: Pool) -> list[str]:
    """Ids of those that Redis has had before and that may still grant."""
    return await _ids(
        pool,
        "SELECT campaign_id FROM campaigns c WHERE applied_version > 0 AND status <> 'OFFLINE'"
        " AND EXISTS (SELECT FROM rounds r WHERE r.campaign_id = c.campaign_id"
        "             AND r.closes_at > extract(epoch FROM now()) * 1000) ORDER BY created_ms",
    )


async def applied_version(pool: Pool, campaign_id: str) -> int:
    """The version that Redis is known to have reached; 0 for none."""
    async with pool.connection() as connection:
        query = "SELECT applied_version FROM campaigns WHERE campaign_id = $1"
        return int(await connection.fetchval(query, campaign_id) or 0)


async def mark_applied(pool: Pool, campaign_id: str, version: int) -> None:
    """Redis has reached `version`. Never goes back, never past the campaign's own version."""
    async with pool.connection() as connection:
        await connection.execute(_MARK, campaign_id, version)


@asynccontextmanager
async def first_time(pool: Pool, campaign_id: str) -> AsyncIterator[Campaign | None]:
    """For the block that creates a campaign's Redis side: marked as applied at its end.

    Gives None, and marks nothing, where that was done before. The campaign's row stays locked
    meanwhile, so that no two centres do it: the later one could otherwise create anew, with all
    its stock, what the earlier one created and Redis then lost.
    """
    async with pool.transaction() as tx:
        campaign = await locked(tx, campaign_id)
        if campaign is None or campaign.status == "DRAFT" or campaign.applied_version:
            yield None
            return
        yield campaign
        await tx.execute(_MARK, campaign_id, campaign.version)


async def locked(tx: "Transaction", campaign_id: str, *, alone: bool = False) -> Campaign | None:
    """One campaign, which no one else changes until the transaction ends; `alone` waits, besides,
    for the transactions that write its facts, and holds up new ones.

    The lock comes first, in a statement of its own: a single one would see the rounds as they
    were when it began to wait, beside the campaign as it is after the wait.
    """
    lock = "SELECT 1 FROM campaigns WHERE campaign_id = $1 FOR "
    if await tx.fetchval(lock + ("UPDATE" if alone else "NO KEY UPDATE"), campaign_id) is None:
        return None
    row = await tx.fetchrow(f"{SELECT} WHERE c.campaign_id = $1", campaign_id)
    assert row is not None
    return Campaign.of(row)


_MARK = """
    UPDATE campaigns SET applied_version = $2
    WHERE campaign_id = $1 AND applied_version < $2 AND version >= $2
"""


async def _ids(pool: Pool, query: str) -> list[str]:
    async with pool.connection() as connection:
        return [row["campaign_id"] for row in await connection.fetch(query)]
