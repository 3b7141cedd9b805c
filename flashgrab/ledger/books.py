"""What the audit reads: snapshots of the ledger, all of one moment (repeatable read)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import asyncpg

from flashgrab.ledger.pool import Pool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]


STRAY_MAX = 1000


@dataclass(frozen=True, slots=True)
class RoundBook:
    """A round by the ledger's own counters."""

    quota: int
    granted: int
    returned: int


@dataclass(frozen=True, slots=True)
class CampaignBook:
    """A campaign's head. `dead` letters wait for a retry; those of a closed epoch, whose seqs are
    void, wait for nothing. `applied`: Redis has this version."""

    campaign_id: str
    epoch: int
    applied: bool
    per_user: int
    per_device: int
    watermark: int
    dead: int
    rounds: dict[int, RoundBook]


class RoundSum(NamedTuple):
    """Facts of a round within a range of seqs."""

    round: int
    granted: int
    returned: int


class CouponRow(NamedTuple):
    """What names a coupon's owner and origin. `returned_seq` 0: not returned."""

    serial: int
    seq: int
    round: int
    user_id: str
    device_id: str
    request_id: str
    returned_seq: int = 0


class Holding(NamedTuple):
    """A user or a device: coupons held, and requests that were granted more than once."""

    name: str
    held: int
    repeats: int


# $1 campaign, $2 seq before the range, $3 last seq of it
_SUMS = """
SELECT round, sum(granted)::bigint AS granted, sum(returned)::bigint AS returned FROM (
    SELECT round, 1 AS granted, 0 AS returned FROM coupons
    WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
    UNION ALL
    SELECT round, 0, 1 FROM coupons
    WHERE campaign_id = $1 AND returned_seq > $2 AND returned_seq <= $3
) AS facts GROUP BY round
"""

_ACCOUNTED = """
    SELECT seq FROM coupons WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
    UNION
    SELECT returned_seq FROM coupons
    WHERE campaign_id = $1 AND returned_seq > $2 AND returned_seq <= $3
    UNION
    SELECT seq FROM dead WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
"""

_VOID = """
SELECT coalesce(sum(least(to_seq, $3) - greatest(from_seq, $2 + 1) + 1), 0)::bigint FROM voids
WHERE campaign_id = $1 AND from_seq <= $3 AND to_seq > $2
"""

_GAPS = f"""
SELECT before + 1 AS from_seq, seq - 1 AS to_seq FROM (
    SELECT seq, lag(upto, 1, $2) OVER (ORDER BY seq) AS before FROM (
        SELECT seq, seq AS upto FROM ({_ACCOUNTED}) AS facts
        UNION
        SELECT greatest(from_seq, $2 + 1), to_seq FROM voids
        WHERE campaign_id = $1 AND from_seq <= $3 AND to_seq > $2
        UNION
        SELECT $3 + 1, $3 + 1
    ) AS covered
) AS neighbours WHERE seq > before + 1 ORDER BY seq LIMIT $4
"""  # noqa: S608 (constants only)

_COUNT_ACCOUNTED = f"SELECT count(*) FROM ({_ACCOUNTED}) AS facts"  # noqa: S608 (constants only)

_DOUBLES = """
SELECT seq FROM coupons WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
GROUP BY seq HAVING count(*) > 1
UNION
SELECT r.returned_seq FROM coupons r
WHERE r.campaign_id = $1 AND r.returned_seq > $2 AND r.returned_seq <= $3
GROUP BY r.returned_seq HAVING count(*) > 1 OR EXISTS (
    SELECT FROM coupons g WHERE g.campaign_id = $1 AND g.seq = r.returned_seq)
ORDER BY seq LIMIT $4
"""

_UNSEEN = """
SELECT count(*) FROM (
    SELECT seq FROM dead WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
    EXCEPT
    SELECT seq FROM coupons WHERE campaign_id = $1 AND seq > $2 AND seq <= $3
    EXCEPT
    SELECT returned_seq FROM coupons
    WHERE campaign_id = $1 AND returned_seq > $2 AND returned_seq <= $3
) AS without_row
"""

# Users (devices) of the rows in the range that have several rows at all; only those few are then
# looked at closely. The names go to their index as one array, which PostgreSQL sorts and meets leaf
# by leaf: 1.2 µs a row, with a look into the index for each 3.8. Statistics do not decide
# (snapshot()).
_SEVERAL = """
SELECT c.{name} AS name FROM coupons c
WHERE c.campaign_id = $1 AND c.{name} <> '' AND c.{name} = ANY (ARRAY(
    SELECT n.{name} FROM coupons n
    WHERE n.campaign_id = $1 AND n.seq > $2 AND n.seq <= $3 AND n.{name} <> ''))
GROUP BY c.{name} HAVING count(*) > $4
"""

# held: as of the seq that is asked for
_HOLDINGS = """
SELECT {name} AS name, count(*) FILTER (WHERE coalesce(returned_seq, $2 + 1) > $2) AS held,
       count(*) - count(DISTINCT (user_id, request_id)) AS repeats
FROM coupons WHERE campaign_id = $1 AND seq <= $2 AND {name} = ANY($3::text[])
GROUP BY {name}
HAVING count(*) FILTER (WHERE coalesce(returned_seq, $2 + 1) > $2) > $4
    OR count(*) > count(DISTINCT (user_id, request_id))
ORDER BY {name} LIMIT $5
"""

_HELD_ON = """
SELECT device_id, count(*) FILTER (WHERE coalesce(returned_seq, $2 + 1) > $2) AS held FROM coupons
WHERE campaign_id = $1 AND seq <= $2 AND device_id = ANY($3::text[]) GROUP BY device_id
"""

_GRANTS_OF = """
SELECT user_id, request_id, coalesce(returned_seq, $2 + 1) > $2 AS held FROM coupons
WHERE campaign_id = $1 AND seq <= $2 AND user_id = ANY($3::text[])
"""

_ROW = """
SELECT serial, seq, round, user_id, device_id, request_id, coalesce(returned_seq, 0) FROM coupons
"""

_ROWS_ABOVE = f"""
{_ROW} WHERE campaign_id = $1 AND seq > $2 ORDER BY seq LIMIT $3
"""

_RETURNED_ABOVE = f"""
{_ROW} WHERE campaign_id = $1 AND returned_seq > $2 ORDER BY returned_seq LIMIT $3
"""

_SERIALS_ABOVE = f"""
{_ROW}WHERE campaign_id = $1 AND serial > $2 ORDER BY serial LIMIT $3
"""

_ROWS_OF = f"""
{_ROW}WHERE campaign_id = $1 AND serial = ANY($2::bigint[])
"""


class Snapshot:
    """The ledger at one moment. Seq ranges are (after, upto]."""

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection

    async def head(self, campaign_id: str) -> CampaignBook | None:
        """The campaign, None where the ledger does not know it or it was never published."""
        row = await self._connection.fetchrow(
            "SELECT c.epoch, c.version = c.applied_version AS applied, c.per_user, c.per_device,"
            " coalesce(w.watermark, 0) AS watermark, (SELECT count(*) FROM dead d"
            " WHERE d.campaign_id = c.campaign_id AND d.retried_ms IS NULL"
            " AND d.reason <> 'CLOSED_EPOCH') AS dead"
            " FROM campaigns c LEFT JOIN watermarks w USING (campaign_id)"
            " WHERE c.campaign_id = $1 AND c.status <> 'DRAFT'",
            campaign_id,
        )
        if row is None:
            return None
        rounds = await self._connection.fetch(
            "SELECT number, quota, granted, returned FROM rounds WHERE campaign_id = $1",
            campaign_id,
        )
        return CampaignBook(
            campaign_id=campaign_id,
            rounds={
                r["number"]: RoundBook(r["quota"], r["granted"], r["returned"]) for r in rounds
            },
            **row,
        )

    async def sums(self, campaign_id: str, after: int, upto: int) -> list[RoundSum]:
        """Grants and returns by round."""
        rows = await self._connection.fetch(_SUMS, campaign_id, after, upto)
        return [RoundSum(*row) for row in rows]

    async def gaps(
        self, campaign_id: str, after: int, upto: int, most: int
    ) -> list[tuple[int, int]]:
        """Ranges of seqs that neither a row, nor a dead letter, nor a void accounts for."""
        covered = await self._connection.fetchval(_COUNT_ACCOUNTED, campaign_id, after, upto)
        covered += await self._connection.fetchval(_VOID, campaign_id, after, upto)
        if covered == upto - after:
            return []
        rows = await self._connection.fetch(_GAPS, campaign_id, after, upto, most)
        return [(row["from_seq"], row["to_seq"]) for row in rows]

    async def void_end(self, campaign_id: str, after: int) -> int:
        """The last seq of the void range that the seq after `after` is in, 0 where in none."""
        return int(
            await self._connection.fetchval(
                "SELECT coalesce(max(to_seq), 0) FROM voids"
                " WHERE campaign_id = $1 AND from_seq <= $2 + 1 AND to_seq > $2",
                campaign_id,
                after,
            )
        )

    async def doubles(self, campaign_id: str, after: int, upto: int, most: int) -> list[int]:
        """Seqs that more than one row has."""
        rows = await self._connection.fetch(_DOUBLES, campaign_id, after, upto, most)
        return [row["seq"] for row in rows]

    async def unseen(self, campaign_id: str, after: int, upto: int) -> int:
        """Facts that are accounted for by a dead letter alone."""
        return int(await self._connection.fetchval(_UNSEEN, campaign_id, after, upto))

    async def users_over(
        self, campaign_id: str, after: int, upto: int, limit: int, most: int
    ) -> list[Holding]:
        """Users of the rows in the range that hold too many, or had one request granted twice."""
        return await self._over("user_id", 1, campaign_id, after, upto, limit, most)

    async def devices_over(
        self, campaign_id: str, after: int, upto: int, limit: int, most: int
    ) -> list[Holding]:
        """Devices of the rows in the range that hold too many."""
        return await self._over("device_id", limit, campaign_id, after, upto, limit, most)

    async def _over(
        self,
        name: str,
        several: int,
        campaign_id: str,
        after: int,
        upto: int,
        limit: int,
        most: int,
    ) -> list[Holding]:
        sql = _SEVERAL.format(name=name)
        rows = await self._connection.fetch(sql, campaign_id, after, upto, several)
        if not rows:
            return []
        names = sorted({row["name"] for row in rows})
        sql = _HOLDINGS.format(name=name)
        rows = await self._connection.fetch(sql, campaign_id, upto, names, limit, most)
        return [Holding(*row) for row in rows]

    async def grants_of_users(
        self, campaign_id: str, upto: int, names: Sequence[str]
    ) -> dict[str, list[tuple[str, bool]]]:
        """Request ids of the rows up to `upto` of these users, and whether they are held still."""
        found: dict[str, list[tuple[str, bool]]] = {}
        if names:
            for row in await self._connection.fetch(_GRANTS_OF, campaign_id, upto, list(names)):
                found.setdefault(row["user_id"], []).append((row["request_id"], row["held"]))
        return found

    async def held_by_devices(
        self, campaign_id: str, upto: int, names: Sequence[str]
    ) -> dict[str, int]:
        """Coupons that each of these devices holds by rows up to `upto`."""
        rows = await self._connection.fetch(_HELD_ON, campaign_id, upto, list(names))
        return {row["device_id"]: row["held"] for row in rows}

    async def rows_above(self, campaign_id: str, after: int, most: int) -> list[CouponRow]:
        """Rows with a seq above `after`, at most `most`."""
        rows = await self._connection.fetch(_ROWS_ABOVE, campaign_id, after, most)
        return [CouponRow(*row) for row in rows]

    async def returned_above(self, campaign_id: str, after: int, most: int) -> list[CouponRow]:
        """Rows whose return has a seq above `after`, at most `most`."""
        rows = await self._connection.fetch(_RETURNED_ABOVE, campaign_id, after, most)
        return [CouponRow(*row) for row in rows]

    async def serials_above(self, campaign_id: str, serial: int, most: int) -> list[CouponRow]:
        """Rows with a serial above `serial`, in order of serials, at most `most`."""
        rows = await self._connection.fetch(_SERIALS_ABOVE, campaign_id, serial, most)
        return [CouponRow(*row) for row in rows]

    async def rows_of(self, campaign_id: str, serials: Sequence[int]) -> dict[int, CouponRow]:
        """Rows by serial."""
        rows = await self._connection.fetch(_ROWS_OF, campaign_id, list(serials))
        return {row["serial"]: CouponRow(*row) for row in rows}

    async def dead_seqs(self, campaign_id: str, seqs: Sequence[int]) -> set[int]:
        """Those of the seqs that a dead letter accounts for."""
        rows = await self._connection.fetch(
            "SELECT DISTINCT seq FROM dead WHERE campaign_id = $1 AND seq = ANY($2::bigint[])",
            campaign_id,
            list(seqs),
        )
        return {row["seq"] for row in rows}

    async def persisted(self, campaign_id: str) -> int:
        """Rows of the campaign."""
        return int(
            await self._connection.fetchval(
                "SELECT count(*) FROM coupons WHERE campaign_id = $1", campaign_id
            )
        )


@asynccontextmanager
async def snapshot(pool: Pool) -> AsyncIterator[Snapshot]:
    """One moment of the ledger, for the block. Raises LedgerUnavailable."""
    async with pool.transaction(isolation="repeatable_read", readonly=True) as connection:
        # what is asked for is a small part of large indexes, whatever stale statistics say
        await connection.execute(
            "SET LOCAL enable_mergejoin = off; SET LOCAL enable_hashjoin = off"
        )
        yield Snapshot(connection)


async def published(pool: Pool) -> list[str]:
    """The campaigns that were ever published, by id."""
    async with pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT campaign_id FROM campaigns WHERE status <> 'DRAFT' ORDER BY campaign_id"
        )
    return [row["campaign_id"] for row in rows]


async def stray_dead_letters(pool: Pool) -> int:
    """Dead letters without a retry that belong to no campaign of the ledger, at most STRAY_MAX."""
    async with pool.connection() as connection:
        return int(
            await connection.fetchval(
                "SELECT count(*) FROM (SELECT FROM dead d WHERE retried_ms IS NULL AND NOT EXISTS"
                " (SELECT FROM campaigns c WHERE c.campaign_id = d.campaign_id) LIMIT $1) AS found",
                STRAY_MAX,
            )
        )
