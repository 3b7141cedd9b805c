"""Rebuilds in the ledger: how far each is, the cut between two epochs, and what Redis is seeded
with. Until the cut the old epoch's facts are taken in; from then on they are dead letters.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from flashgrab.ledger import progress
from flashgrab.ledger.campaigns import Campaign, locked
from flashgrab.ledger.closed import CLOSED_EPOCH
from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Transaction = PoolConnectionProxy[asyncpg.Record]

Step = Literal["DRAIN", "SEED", "SWITCH", "DONE"]

PAGE = 1000
SEED_S = 600.0
"""How long PostgreSQL may take to sort a campaign's coupons by user."""
_LOCK_SEED = 0x7265
"""Keeps the advisory locks of rebuilds apart from others."""


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One rebuild. From the cut on it has the epoch that it opens, the cut, the last seq that the
    epochs before may have given (`start`), and its report."""

    operation: str
    campaign_id: str
    step: Step
    without_kafka: bool
    epoch: int | None
    cut: int | None
    start: int | None
    report: Mapping[str, Any] | None
    begun_ms: int
    ended_ms: int | None

    @classmethod
    def of(cls, row: "asyncpg.Record") -> "Rebuild":
        """From a row of the table."""
        report = row["report"]
        return cls(**{**row, "report": None if report is None else json.loads(report)})


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known beside the ledger when the cut is made.

    `epoch`, `seq`: of the old keys in Redis, 0 without any; `whole`: that server knew every fact,
    and its outbox is in the ledger. `floor`: the highest seq that a gateway has reported.
    """

    outbox_max: int
    epoch: int = 0
    seq: int = 0
    whole: bool = False
    floor: int = 0
    taken_over: int = 0


async def begin(
    tx: "Transaction", campaign_id: str, operation: str, without_kafka: bool, at_ms: int
) -> bool:
    """A new rebuild; False where one goes on. That one is told to do without Kafka, if wanted."""
    if without_kafka:
        done = await tx.execute(
            "UPDATE rebuilds SET without_kafka = true WHERE campaign_id = $1 AND step = 'DRAIN'"
            " AND NOT without_kafka",
            campaign_id,
        )
        if done == "UPDATE 1":
            return True
    added = await tx.fetchval(
        "INSERT INTO rebuilds (operation, campaign_id, step, without_kafka, begun_ms)"
        " SELECT $1, $2, 'DRAIN', $3, $4 WHERE NOT EXISTS"
        " (SELECT FROM rebuilds WHERE campaign_id = $2 AND step <> 'DONE') RETURNING 1",
        operation,
        campaign_id,
        without_kafka,
        at_ms,
    )
    return added is not None


async def going_on(pool: Pool) -> list[Rebuild]:
    """Those that are not at their end."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT * FROM rebuilds WHERE step <> 'DONE' ORDER BY begun_ms, campaign_id"
        )
    return [Rebuild.of(row) for row in rows]


async def last(pool: Pool, campaign_id: str) -> Rebuild | None:
    """The latest of a campaign, None where it was never rebuilt."""
    async with pool.connection() as connection:
        row = await connection.fetchrow(
            "SELECT * FROM rebuilds WHERE campaign_id = $1 ORDER BY begun_ms DESC LIMIT 1",
            campaign_id,
        )
    return Rebuild.of(row) if row else None


@asynccontextmanager
async def mine(pool: Pool, campaign_id: str) -> AsyncIterator[Rebuild | None]:
    """For the block, the rebuild of a campaign; None where there is none, or another centre is at
    it. PostgreSQL frees the place when this process dies."""
    async with pool.transaction() as tx:
        lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))"
        if not await tx.fetchval(lock, campaign_id, _LOCK_SEED):
            yield None
            return
        row = await tx.fetchrow(
            "SELECT * FROM rebuilds WHERE campaign_id = $1 AND step <> 'DONE'", campaign_id
        )
        yield Rebuild.of(row) if row else None


_FREE = """
SELECT coalesce(sum(greatest(r.quota - coalesce(c.held, 0), 0)), 0)::bigint
    + (SELECT count(*) FROM returns WHERE campaign_id = $1 AND done_ms IS NULL) AS free,
       coalesce(sum(c.coupons), 0)::bigint AS coupons
FROM rounds r LEFT JOIN (
    SELECT round, count(*) FILTER (WHERE returned_seq IS NULL) AS held, count(*) AS coupons
    FROM coupons WHERE campaign_id = $1 GROUP BY round
) c ON c.round = r.number
WHERE r.campaign_id = $1
"""

# $1 campaign, $2 reason; letters that stand for a coupon which the ledger does not have
_DEAD = """
SELECT count(*) FROM dead d WHERE campaign_id = $1 AND retried_ms IS NULL AND reason <> $2
AND NOT EXISTS (SELECT FROM coupons c WHERE c.campaign_id = d.campaign_id AND c.seq = d.seq)
"""

_VOIDS = f"""
INSERT INTO voids (campaign_id, from_seq, to_seq, epoch)
SELECT $1, from_seq, to_seq, $4::bigint FROM ({progress.HOLES}) AS holes
"""  # noqa: S608 (constants only)


async def cut(pool: Pool, rebuild: Rebuild, seen: Seen, at_ms: int) -> Rebuild:
    """Close the old epoch and open the next one, in one transaction that waits for every writer
    of the old epoch's facts and that none of them can follow.

    What the ledger has then is all there is: any other seq up to `start` is void, be it that it
    was lost, be it that it was never given. Nobody can have been given one beyond: grab.lua stops
    `outbox_max` above the watermark, so does return.lua, and the watermark in Redis is never above
    the ledger's.
    """
    campaign_id = rebuild.campaign_id
    async with pool.transaction() as tx:
        campaign = await locked(tx, campaign_id, alone=True)
        assert campaign is not None
        watermark = await progress.watermark(tx, campaign_id)
        highest = await progress.highest(tx, campaign_id)
        sums = await tx.fetchrow(_FREE, campaign_id)
        assert sums is not None
        dead = await tx.fetchval(_DEAD, campaign_id, CLOSED_EPOCH)
        epoch = max(campaign.epoch, seen.epoch) + 1
        holes = await tx.fetch(
            f"SELECT coalesce(sum(to_seq - from_seq + 1), 0)::bigint AS n FROM ({progress.HOLES})"  # noqa: S608
            " AS holes",
            campaign_id,
            watermark,
            highest,
        )
        lost = holes[0]["n"]
        known = max(highest, seen.seq, seen.floor)
        unseen = known - highest + (0 if seen.whole else seen.outbox_max)
        before = rebuild.report or {}  # of a cut whose epoch may have been open for a moment
        start = known + seen.outbox_max
        lost_max = min(lost + unseen + dead, sums["free"])
        lost_seen = lost + known - highest + dead
        report = {
            "epoch": epoch,
            "cut": highest,
            "coupons": sums["coupons"],
            "taken_over": before.get("taken_over", 0) + seen.taken_over,
            "lost_max": before.get("lost_max", 0) + lost_max,
            "lost_seen": min(before.get("lost_seen", 0) + lost_seen, lost_max),
            "dead": dead,
        }
        await tx.execute(_VOIDS, campaign_id, watermark, start, epoch)
        await tx.execute(progress.STORE, campaign_id, start, at_ms)
        await tx.execute(
            "UPDATE campaigns SET epoch = $2 WHERE campaign_id = $1", campaign_id, epoch
        )
        await tx.execute(
            "UPDATE rebuilds SET step = 'SEED', epoch = $2, cut = $3, start = $4, report = $5"
            " WHERE operation = $1",
            rebuild.operation,
            epoch,
            highest,
            start,
            json.dumps(report),
        )
    return replace(rebuild, step="SEED", epoch=epoch, cut=highest, start=start, report=report)


async def move(pool: Pool, rebuild: Rebuild, step: Step) -> Rebuild:
    """Note what is to be done next."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE rebuilds SET step = $2 WHERE operation = $1", rebuild.operation, step
        )
    return replace(rebuild, step=step)


@asynccontextmanager
async def ending(pool: Pool, rebuild: Rebuild, at_ms: int) -> AsyncIterator[Campaign]:
    """For the block that opens the campaign in Redis: its target, which no one changes meanwhile.
    At its end the rebuild is DONE, and Redis has this version."""
    async with pool.transaction() as tx:
        campaign = await locked(tx, rebuild.campaign_id)
        assert campaign is not None
        yield campaign
        await tx.execute(
            "UPDATE campaigns SET applied_version = version WHERE campaign_id = $1",
            rebuild.campaign_id,
        )
        await tx.execute(
            "UPDATE rebuilds SET step = 'DONE', ended_ms = $2 WHERE operation = $1",
            rebuild.operation,
            at_ms,
        )


# -- what Redis is seeded with -------------------------------------------------------------------

_HOLDERS = """
SELECT user_id, string_agg(serial || ',' || seq || ',' || round || ','
    || CASE WHEN returned_seq IS NULL THEN 'g' ELSE 'r' END || ',' || request_id || ';', ''
    ORDER BY serial)
FROM coupons WHERE campaign_id = $1 GROUP BY user_id
"""

_DEVICES = """
SELECT device_id, count(*)::text FROM coupons
WHERE campaign_id = $1 AND device_id <> '' AND returned_seq IS NULL GROUP BY device_id
"""


class Seed:
    """The ledger's coupons at one moment, in the forms of lua/README.md."""

    def __init__(self, tx: "Transaction", campaign_id: str) -> None:
        self._tx = tx
        self._campaign_id = campaign_id

    def holders(self) -> AsyncIterator[tuple[str, str]]:
        """User and his grants, returned ones too: their keys go on to replay."""
        return self._rows(_HOLDERS)

    def devices(self) -> AsyncIterator[tuple[str, str]]:
        """Device and the coupons held on it."""
        return self._rows(_DEVICES)

    async def counts(self) -> dict[int, tuple[int, int]]:
        """Granted and returned by round."""
        rows = await self._tx.fetch(
            "SELECT round, count(*) AS granted, count(returned_seq) AS returned FROM coupons"
            " WHERE campaign_id = $1 GROUP BY round",
            self._campaign_id,
        )
        return {row["round"]: (row["granted"], row["returned"]) for row in rows}

    async def _rows(self, query: str) -> AsyncIterator[tuple[str, str]]:
        cursor = self._tx.cursor(query, self._campaign_id, prefetch=PAGE, timeout=SEED_S)
        async for row in cursor:
            yield row[0], row[1]


@asynccontextmanager
async def seed(pool: Pool, campaign_id: str) -> AsyncIterator[Seed]:
    """One moment of the ledger for the block. After the cut the coupons stand still."""
    async with pool.transaction(isolation="repeatable_read", readonly=True) as tx:
        await tx.execute("SET LOCAL work_mem = '128MB'")  # a million rows are sorted by user
        yield Seed(tx, campaign_id)
