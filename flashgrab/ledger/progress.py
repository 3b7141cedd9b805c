"""How far the ledger has every fact: watermarks, holes, and where the partitions are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


@dataclass(frozen=True, slots=True)
class Standing:
    """A published campaign as the ledger has it. `ready`: the fact after the watermark is there."""

    campaign_id: str
    epoch: int
    watermark: int
    ready: bool


# ORDER BY … LIMIT 1 and not EXISTS: the planner may turn EXISTS into a scan of the whole table
_STANDINGS = """
SELECT c.campaign_id, c.epoch, m.watermark, m.watermark + 1 IN (
    coalesce((SELECT seq FROM coupons WHERE campaign_id = c.campaign_id AND seq > m.watermark
              ORDER BY campaign_id, seq LIMIT 1), 0),
    coalesce((SELECT returned_seq FROM coupons WHERE campaign_id = c.campaign_id
              AND returned_seq > m.watermark ORDER BY campaign_id, returned_seq LIMIT 1), 0),
    coalesce((SELECT seq FROM dead WHERE campaign_id = c.campaign_id AND seq > m.watermark
              ORDER BY campaign_id, seq LIMIT 1), 0),
    coalesce((SELECT greatest(from_seq, m.watermark + 1) FROM voids
              WHERE campaign_id = c.campaign_id AND to_seq > m.watermark
              ORDER BY campaign_id, from_seq LIMIT 1), 0)) AS ready
FROM campaigns c LEFT JOIN watermarks w USING (campaign_id)
CROSS JOIN LATERAL (SELECT coalesce(w.watermark, 0) AS watermark) AS m
WHERE c.status <> 'DRAFT' AND ($1::text[] IS NULL OR c.campaign_id = ANY($1))
"""

# $1 campaign, $2 watermark, $3 last seq looked at; voids are clipped to the window
_SEQS = """
SELECT seq FROM coupons WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
UNION
SELECT returned_seq FROM coupons
WHERE campaign_id = $1 AND returned_seq > $2 AND returned_seq <= $3
UNION
SELECT seq FROM dead WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
UNION
SELECT generate_series(greatest(from_seq, $2 + 1), least(to_seq, $3)) FROM voids
WHERE campaign_id = $1 AND from_seq <= $3 AND to_seq > $2
"""

_PREFIX = f"""
SELECT max(seq) AS watermark
FROM (SELECT seq, row_number() OVER (ORDER BY seq) AS n FROM ({_SEQS}) AS s) AS numbered
WHERE seq = $2 + n
"""  # noqa: S608 (constants only)

HOLES = f"""
SELECT before + 1 AS from_seq, seq - 1 AS to_seq
FROM (SELECT seq, lag(seq, 1, $2) OVER (ORDER BY seq) AS before
      FROM ({_SEQS} UNION SELECT $3 + 1) AS s) AS neighbours
WHERE seq > before + 1
"""  # noqa: S608 (constants only)
"""Ranges of seqs above $2, up to $3, that the ledger does not account for."""

STORE = """
INSERT INTO watermarks (campaign_id, watermark, at_ms) VALUES ($1, $2, $3)
ON CONFLICT (campaign_id) DO UPDATE SET watermark = $2, at_ms = $3
WHERE watermarks.watermark < $2
"""

_HIGHEST = """
SELECT greatest(
    (SELECT watermark FROM watermarks WHERE campaign_id = $1),
    (SELECT max(seq) FROM coupons WHERE campaign_id = $1),
    (SELECT max(returned_seq) FROM coupons WHERE campaign_id = $1 AND returned_seq > 0),
    (SELECT max(to_seq) FROM voids WHERE campaign_id = $1),
    0)
"""


async def standings(pool: Pool, campaign_ids: Sequence[str] | None = None) -> list[Standing]:
    """Every campaign that was published, or those of them that are named."""
    async with pool.connection() as connection:
        rows = await connection.fetch(_STANDINGS, campaign_ids)
    return [Standing(r["campaign_id"], r["epoch"], r["watermark"], r["ready"]) for r in rows]


async def advance(pool: Pool, campaign_id: str, watermark: int, step: int, at_ms: int) -> int:
    """Move the watermark over what follows it without a gap, at most `step` facts; returns it.

    A void range that begins right after it is passed whole, however long it is.
    """
    async with pool.transaction() as connection:
        void_end = await connection.fetchval(
            "SELECT to_seq FROM voids WHERE campaign_id = $1 AND from_seq <= $2 AND to_seq >= $2",
            campaign_id,
            watermark + 1,
        )
        start = void_end or watermark
        end = await connection.fetchval(_PREFIX, campaign_id, start, start + step) or start
        if end > watermark:
            await connection.execute(STORE, campaign_id, end, at_ms)
    return int(end)


async def holes(
    pool: Pool, campaign_id: str, watermark: int, to_seq: int, ranges_max: int
) -> list[tuple[int, int]]:
    """Seqs between watermark and `to_seq` (inclusive) that the ledger does not have, as ranges."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            f"{HOLES} ORDER BY seq LIMIT $4", campaign_id, watermark, to_seq, ranges_max
        )
    return [(row["from_seq"], row["to_seq"]) for row in rows]


async def highest_seq(pool: Pool, campaign_id: str) -> int:
    """The highest seq that the ledger knows to have been given, 0 where there is none."""
    async with pool.connection() as connection:
        return await highest(connection, campaign_id)


async def highest(connection: "Connection", campaign_id: str) -> int:
    """The same, inside a transaction."""
    return int(await connection.fetchval(_HIGHEST, campaign_id))


async def watermark(connection: "Connection", campaign_id: str) -> int:
    """The campaign's watermark, inside a transaction."""
    query = "SELECT watermark FROM watermarks WHERE campaign_id = $1"
    return int(await connection.fetchval(query, campaign_id) or 0)


async def next_offsets(pool: Pool, topic: str) -> dict[int, int]:
    """How far each partition is in the ledger."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT partition, next_offset FROM offsets WHERE topic = $1", topic
        )
    return {row["partition"]: row["next_offset"] for row in rows}


def as_text(ranges: Sequence[tuple[int, int]]) -> str:
    """Ranges in the form of settle.lua: "from-to,from-to"."""
    return ",".join(f"{first}-{last}" for first, last in ranges)
