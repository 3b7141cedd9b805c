"""Segments in the ledger: digests only, a chunk a row, under a stamp of their content."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from flashgrab.errors import LedgerUnavailable, OperationRefused
from flashgrab.ledger.operations import Result, before, note
from flashgrab.ledger.pool import Pool
from flashgrab.model import AFTER_END_MS
from flashgrab.segments import Loaded


@dataclass(frozen=True, slots=True)
class Kept:
    """A campaign's segment as the ledger has it."""

    campaign_id: str
    name: str
    stamp: str
    key: str
    members: int
    chunks: int
    loaded_ms: int


_PUT = """
INSERT INTO segments (campaign_id, name, stamp, key, members, chunks, loaded_ms)
VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (campaign_id) DO UPDATE
SET name = $2, stamp = $3, key = $4, members = $5, chunks = $6, loaded_ms = $7
"""
_CHUNK = """
INSERT INTO segment_chunks (campaign_id, stamp, number, digests) VALUES ($1, $2, $3, $4)
ON CONFLICT (campaign_id, stamp, number) DO NOTHING
"""
_KEPT = """
SELECT s.*, c.status = 'DRAFT' OR (c.status <> 'OFFLINE' AND EXISTS (SELECT FROM rounds r
    WHERE r.campaign_id = c.campaign_id AND r.closes_at > $1)) AS due
FROM segments s JOIN campaigns c USING (campaign_id) ORDER BY s.loaded_ms
"""


async def name_of(pool: Pool, campaign_id: str) -> str:
    """The segment that a campaign is for. Raises OperationRefused where it is for none."""
    async with pool.connection() as connection:
        row = await connection.fetchrow(
            "SELECT definition->>'segment' AS name, status FROM campaigns WHERE campaign_id = $1",
            campaign_id,
        )
    if row is None:
        raise OperationRefused("CAMPAIGN_NOT_FOUND", f"there is no campaign {campaign_id}")
    if row["name"] is None:
        why = f'campaign {campaign_id} is not for a segment: audience = "segment" makes it so'
        raise OperationRefused("STATUS_CONFLICT", why)
    if row["status"] == "OFFLINE":
        raise OperationRefused("STATUS_CONFLICT", f"campaign {campaign_id} is OFFLINE, for good")
    return str(row["name"])


async def load(
    pool: Pool, now_ms: int, operation: str, campaign_id: str, key: str, loaded: Loaded
) -> Result:
    """Make this the campaign's segment; the one before goes. Raises OperationRefused."""
    name = await name_of(pool, campaign_id)
    request = {"action": "segment", "campaign_id": campaign_id, "stamp": loaded.stamp}
    async with pool.transaction() as tx:
        if repeated := await before(tx, operation, request):
            return repeated
        version = await tx.fetchval(  # two who load wait for each other here
            "SELECT version FROM campaigns WHERE campaign_id = $1 FOR NO KEY UPDATE", campaign_id
        )
        known = await tx.fetchval("SELECT stamp FROM segments WHERE campaign_id = $1", campaign_id)
        await tx.execute(
            _PUT, campaign_id, name, loaded.stamp, key, loaded.members, len(loaded.chunks), now_ms
        )
        await tx.execute(
            "DELETE FROM segment_chunks WHERE campaign_id = $1 AND stamp <> $2",
            campaign_id,
            loaded.stamp,
        )
        if known != loaded.stamp:
            for number, chunk in enumerate(loaded.chunks):
                await tx.execute(_CHUNK, campaign_id, loaded.stamp, number, chunk)
        fields = {
            "campaign_id": campaign_id,
            "action": "segment",
            "operation": operation,
            "segment": name,
            "stamp": loaded.stamp,
            "members": loaded.members,
            "version": version,
        }
        await note(tx, operation, request, fields, now_ms)
    return Result(fields, there=known == loaded.stamp)


async def get(pool: Pool, campaign_id: str) -> Kept | None:
    """One campaign's segment, None where none was loaded."""
    async with pool.connection() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM segments WHERE campaign_id = $1", campaign_id
        )
    return Kept(**row) if row else None


async def kept(pool: Pool, now_ms: int) -> list[tuple[Kept, bool]]:
    """All of them, and whether Redis should have it: the campaign may yet issue passes."""
    async with pool.connection() as connection:
        rows = await connection.fetch(_KEPT, now_ms - AFTER_END_MS)
    return [(Kept(**{n: v for n, v in row.items() if n != "due"}), row["due"]) for row in rows]


async def chunks(pool: Pool, kept: Kept) -> AsyncIterator[bytes]:
    """Its chunks in order, one in memory at a time. Raises LedgerUnavailable where another list
    has taken its place meanwhile."""
    for number in range(kept.chunks):
        async with pool.connection() as connection:
            chunk = await connection.fetchval(
                "SELECT digests FROM segment_chunks"
                " WHERE campaign_id = $1 AND stamp = $2 AND number = $3",
                kept.campaign_id,
                kept.stamp,
                number,
            )
        if chunk is None:
            raise LedgerUnavailable(f"the segment of {kept.campaign_id} has just been replaced")
        yield chunk
