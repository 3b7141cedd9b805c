"""The blocklist in the ledger: what Redis and every gateway are brought to."""

import secrets
from typing import TYPE_CHECKING

from flashgrab.blocks import BLOCKS_MAX, FOR_EVER, Block, Kind
from flashgrab.errors import OperationRefused
from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Transaction = PoolConnectionProxy[asyncpg.Record]

PAGE_MAX = 1000

_CHANGED = """
INSERT INTO blocklist (stamp) VALUES ($1) ON CONFLICT (one) DO UPDATE SET stamp = $1
"""
_ADD = """
INSERT INTO blocks (kind, subject, why, by_whom, until_ms, at_ms) VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (kind, subject) DO UPDATE SET why = $3, by_whom = $4, until_ms = $5, at_ms = $6
"""
_PAGE = """
SELECT kind, subject, why, by_whom, until_ms, at_ms FROM blocks
WHERE kind || ':' || subject COLLATE "C" > $1 AND (until_ms IS NULL OR until_ms > $2)
ORDER BY kind || ':' || subject COLLATE "C" LIMIT $3
"""


async def add(pool: Pool, block: Block) -> str:
    """Block, or change what is blocked already. Returns the new stamp.

    What is over goes. Raises OperationRefused BLOCKLIST_FULL.
    """
    async with pool.transaction() as tx:
        stamp = await _change(tx)
        await tx.execute("DELETE FROM blocks WHERE until_ms <= $1", block.at_ms)
        await tx.execute(
            _ADD, block.kind, block.subject, block.why, block.by, block.until_ms, block.at_ms
        )
        if await tx.fetchval("SELECT count(*) FROM blocks") > BLOCKS_MAX:
            why = f"the blocklist has {BLOCKS_MAX:,} entries already, which is all it may have"
            raise OperationRefused("BLOCKLIST_FULL", why)
    return stamp


async def remove(pool: Pool, kind: Kind, subject: str) -> tuple[bool, str]:
    """Take an entry off; whether it was there, and the stamp of the list."""
    async with pool.transaction() as tx:
        stamp = await _change(tx)
        gone = await tx.fetchval(
            "DELETE FROM blocks WHERE kind = $1 AND subject = $2 RETURNING 1", kind, subject
        )
    return gone is not None, stamp


async def page(pool: Pool, after: str, now_ms: int, limit: int) -> list[Block]:
    """At most `limit` entries that hold now and whose `kind:subject` comes after `after`."""
    async with pool.connection() as connection:
        rows = await connection.fetch(_PAGE, after, now_ms, min(limit, PAGE_MAX))
    return [Block(*row) for row in rows]


async def stamp(pool: Pool) -> str:
    """Of the list as it is; "" before the first change."""
    async with pool.connection() as connection:
        return await connection.fetchval("SELECT stamp FROM blocklist") or ""


async def entries(pool: Pool) -> tuple[str, dict[str, int]]:
    """Stamp and entries of one moment, as Redis gets them."""
    async with pool.transaction(isolation="repeatable_read", readonly=True) as tx:
        found = await tx.fetchval("SELECT stamp FROM blocklist") or ""
        rows = await tx.fetch("SELECT kind, subject, until_ms FROM blocks")
    return found, {f"{r['kind']}:{r['subject']}": r["until_ms"] or FOR_EVER for r in rows}


async def _change(tx: "Transaction") -> str:
    """A new stamp; whoever changes the list next waits for this transaction."""
    made = secrets.token_hex(8) + "-"  # never a number: the hash in Redis holds times besides it
    await tx.execute(_CHANGED, made)
    return made
