"""What the console keeps in the ledger, and what it reads of it (centre/console/)."""

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple

from flashgrab.ledger.pool import Pool

PAGE = 2000
"""Rows of one read of history: between two others have their turn."""
NOTES_MAX = 500
CAMPAIGNS_MAX = 200
OPENINGS_MAX = 1000
KEEP_MS = 24 * 3_600_000
KEEP_OPENINGS_MS = 400 * 86_400_000
SWEPT_MAX = 50_000
"""Rows of one sweep."""


class Kept(NamedTuple):
    """A second: its row, and its steps where a round opened near it, both as JSON."""

    at_ms: int
    second: bytes
    fine: bytes | None


class Note(NamedTuple):
    """Something that happened; `campaign_id` "" where it concerns all."""

    at_ms: int
    campaign_id: str
    kind: str
    words: str


class Standing(NamedTuple):
    """A published campaign as the ledger has it; `granted` and `returned` count what persisted."""

    campaign_id: str
    name: str
    status: str
    watermark: int
    granted: int
    returned: int


class Round(NamedTuple):
    """One timed opening; `sold_out_at` as it was noted last, None where it never was."""

    campaign_id: str
    name: str
    number: int
    opens_at: int
    closes_at: int
    quota: int
    sold_out_at: int | None


async def keep(pool: Pool, rows: Sequence[Kept], notes: Sequence[Note]) -> None:
    """Add; what is there already stays: another centre has seen the same."""
    async with pool.transaction() as tx:
        await tx.execute(
            "INSERT INTO console_seconds (at_ms, second, fine)"
            " SELECT * FROM unnest($1::bigint[], $2::bytea[], $3::bytea[])"
            " ON CONFLICT (at_ms) DO NOTHING",
            [row.at_ms for row in rows],
            [row.second for row in rows],
            [row.fine for row in rows],
        )
        if notes:
            await tx.execute(
                "INSERT INTO console_notes (at_ms, campaign_id, kind, words)"
                " SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[])"
                " ON CONFLICT DO NOTHING",
                *map(list, zip(*notes, strict=True)),
            )


async def sweep(pool: Pool, now_ms: int) -> None:
    """Forget what is too old; a part of it where that is much."""
    async with pool.connection() as connection:
        await connection.execute(
            "DELETE FROM console_seconds WHERE at_ms IN (SELECT at_ms FROM console_seconds"
            " WHERE fine IS NULL AND at_ms < $1 ORDER BY at_ms LIMIT $2)",
            now_ms - KEEP_MS,
            SWEPT_MAX,
        )
        await connection.execute(
            "DELETE FROM console_seconds WHERE at_ms < $1", now_ms - KEEP_OPENINGS_MS
        )
        await connection.execute(
            "DELETE FROM console_notes WHERE at_ms < $1", now_ms - KEEP_OPENINGS_MS
        )


async def seconds(
    pool: Pool, from_ms: int, to_ms: int, fine_from_ms: int
) -> AsyncIterator[list[Kept]]:
    """Those that begin in [from_ms, to_ms), by time, in pages; with their steps, which are large,
    only from `fine_from_ms` on."""
    while True:
        async with pool.connection() as connection:
            rows = await connection.fetch(
                "SELECT at_ms, second, CASE WHEN at_ms >= $4 THEN fine END FROM console_seconds"
                " WHERE at_ms >= $1 AND at_ms < $2 ORDER BY at_ms LIMIT $3",
                from_ms,
                to_ms,
                PAGE,
                fine_from_ms,
            )
        yield [Kept(*row) for row in rows]
        if len(rows) < PAGE:
            return
        from_ms = rows[-1]["at_ms"] + 1


async def notes(pool: Pool, campaign_ids: Sequence[str], from_ms: int, to_ms: int) -> list[Note]:
    """What happened to these campaigns, and to all: the latest NOTES_MAX, by time.

    The console's own notes, what the staff did, and the openings and ends of rounds.
    """
    async with pool.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT * FROM (
                SELECT at_ms, campaign_id, kind, words FROM console_notes
                WHERE at_ms >= $2 AND at_ms < $3 AND (campaign_id = '' OR campaign_id = ANY($1))
                UNION ALL
                SELECT at_ms, target, regexp_replace(action, '^.*/', ''), 'by ' || name
                FROM staff_log
                WHERE at_ms >= $2 AND at_ms < $3 AND target = ANY($1) AND status < 300
                  AND action LIKE 'POST /v1/campaigns/{campaign_id}/%'
                UNION ALL
                SELECT opens_at, campaign_id, 'opened', 'round ' || number FROM rounds
                WHERE opens_at >= $2 AND opens_at < $3 AND campaign_id = ANY($1)
                UNION ALL
                SELECT closes_at, campaign_id, 'ended', 'round ' || number FROM rounds
                WHERE closes_at >= $2 AND closes_at < $3 AND campaign_id = ANY($1)
                ORDER BY at_ms DESC LIMIT $4
            ) AS latest ORDER BY at_ms, campaign_id, kind, words
            """,
            list(campaign_ids),
            from_ms,
            to_ms,
            NOTES_MAX,
        )
    return [Note(*row) for row in rows]


async def standings(pool: Pool, campaign_ids: Sequence[str]) -> dict[str, Standing]:
    """Of those that are published."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT c.campaign_id, c.definition ->> 'name', c.status,"
            " coalesce(w.watermark, 0), coalesce(sum(r.granted), 0)::bigint,"
            " coalesce(sum(r.returned), 0)::bigint"
            " FROM campaigns c LEFT JOIN watermarks w USING (campaign_id)"
            " LEFT JOIN rounds r USING (campaign_id)"
            " WHERE c.campaign_id = ANY($1) AND c.status <> 'DRAFT' GROUP BY 1, 2, 3, 4",
            list(campaign_ids),
        )
    return {row["campaign_id"]: Standing(*row) for row in rows}


async def rounds(pool: Pool, campaign_ids: Sequence[str]) -> list[Round]:
    """All rounds of those that are published."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT r.campaign_id, c.definition ->> 'name', r.number, r.opens_at, r.closes_at,"
            " r.quota, (SELECT max(n.at_ms) FROM console_notes n WHERE n.at_ms >= r.opens_at"
            " AND n.campaign_id = r.campaign_id AND n.kind = 'sold out'"
            " AND n.words = 'round ' || r.number)"
            " FROM rounds r JOIN campaigns c USING (campaign_id)"
            " WHERE r.campaign_id = ANY($1) AND c.status <> 'DRAFT' ORDER BY 1, 3",
            list(campaign_ids),
        )
    return [Round(*row) for row in rows]


async def nearest(
    pool: Pool, now_ms: int, limit: int, *, find: str = "", alive: bool = False
) -> list[str]:
    """Ids of published campaigns: those that are open, then by how far away an opening of theirs
    is. `find`: only with this in the id or the name; `alive`: only those that may still grant.
    """
    async with pool.connection() as connection:
        rows = await connection.fetch(
            """
            SELECT r.campaign_id FROM rounds r JOIN campaigns c USING (campaign_id)
            WHERE c.status <> 'DRAFT'
              AND (strpos(r.campaign_id, lower($3)) > 0
                   OR strpos(lower(c.definition ->> 'name'), lower($3)) > 0)
              AND (NOT $4 OR (c.status <> 'OFFLINE' AND r.closes_at > $1))
            GROUP BY 1
            ORDER BY min(CASE WHEN c.status <> 'OFFLINE' AND r.opens_at <= $1 AND $1 < r.closes_at
                              THEN 0 ELSE abs(r.opens_at - $1) END),
                     min(abs(r.opens_at - $1)), 1
            LIMIT $2
            """,
            now_ms,
            limit,
            find,
            alive,
        )
    return [row["campaign_id"] for row in rows]


async def openings(pool: Pool, from_ms: int, to_ms: int) -> list[int]:
    """When rounds opened in [from_ms, to_ms), of any published campaign; the latest ones."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT DISTINCT opens_at FROM rounds JOIN campaigns USING (campaign_id)"
            " WHERE status <> 'DRAFT' AND opens_at >= $1 AND opens_at < $2"
            " ORDER BY opens_at DESC LIMIT $3",
            from_ms,
            to_ms,
            OPENINGS_MAX,
        )
    return [row["opens_at"] for row in rows]
