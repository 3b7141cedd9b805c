"""Returns in the ledger: asked for, pending until Redis has them, done once their fact is here.

The coupon's row is locked while its state is judged, so of two who want the same coupon (another
return, a checkout) one comes later and sees it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from flashgrab.errors import OperationRefused
from flashgrab.ids import grab_id
from flashgrab.ledger.operations import Result, before, note
from flashgrab.ledger.pool import Pool


@dataclass(frozen=True, slots=True)
class Pending:
    """A return that this epoch and run of Redis is not known to have."""

    serial: int
    round: int
    user_id: str
    device_id: str


_ASK = """
WITH coupon AS (UPDATE coupons SET state = 'RETURNED' WHERE campaign_id = $1 AND serial = $2)
INSERT INTO returns (campaign_id, serial, operation, at_ms) VALUES ($1, $2, $3, $4)
"""

# epoch and run: what Redis is in now
_WAITING = """
SELECT DISTINCT r.campaign_id, c.epoch FROM returns r JOIN campaigns c USING (campaign_id)
WHERE r.done_ms IS NULL AND (r.epoch IS DISTINCT FROM c.epoch OR r.run IS DISTINCT FROM $1)
ORDER BY r.campaign_id
"""

_PENDING = """
SELECT r.serial, p.round, p.user_id, p.device_id
FROM returns r JOIN coupons p USING (campaign_id, serial)
WHERE r.campaign_id = $1 AND r.serial > $2 AND r.done_ms IS NULL
  AND (r.epoch IS DISTINCT FROM $3 OR r.run IS DISTINCT FROM $4)
ORDER BY r.serial LIMIT $5
"""

_DONE = """
UPDATE returns r SET done_ms = extract(epoch FROM now())::bigint * 1000 FROM coupons p
WHERE r.done_ms IS NULL AND p.campaign_id = r.campaign_id AND p.serial = r.serial
  AND p.returned_seq IS NOT NULL
"""

_IS_APPLIED = """
SELECT r.done_ms IS NOT NULL OR r.epoch = c.epoch FROM returns r JOIN campaigns c
USING (campaign_id) WHERE r.campaign_id = $1 AND r.serial = $2
"""


async def ask(pool: Pool, now_ms: int, operation: str, campaign_id: str, serial: int) -> Result:
    """Commit a return: the coupon is RETURNED for good, whatever Redis does.

    Raises OperationRefused GRAB_NOT_FOUND (also for one that is not persisted yet),
    ALREADY_RETURNED or NOT_RETURNABLE.
    """
    name = grab_id(campaign_id, serial)
    request = {"action": "return", "grab_id": name}
    async with pool.transaction() as tx:
        if repeated := await before(tx, operation, request):
            return repeated
        coupon = await tx.fetchrow(
            "SELECT p.round, p.state, c.version FROM coupons p JOIN campaigns c USING (campaign_id)"
            " WHERE p.campaign_id = $1 AND p.serial = $2 FOR UPDATE OF p",
            campaign_id,
            serial,
        )
        if coupon is None:
            detail = f"the ledger has no coupon {name}; one granted just now gets there in seconds"
            raise OperationRefused("GRAB_NOT_FOUND", detail)
        if coupon["state"] == "RETURNED":
            raise OperationRefused("ALREADY_RETURNED", f"coupon {name} was returned before")
        if coupon["state"] != "UNUSED":
            detail = f"coupon {name} is {coupon['state']}; only an UNUSED one can be returned"
            raise OperationRefused("NOT_RETURNABLE", detail)
        await tx.execute(_ASK, campaign_id, serial, operation, now_ms)
        fields = {
            "grab_id": name,
            "campaign_id": campaign_id,
            "serial": serial,
            "round": coupon["round"],
            "action": "return",
            "operation": operation,
            "state": "RETURNED",
            "version": coupon["version"],
        }
        await note(tx, operation, request, fields, now_ms)
    return Result(fields)


async def waiting(pool: Pool, run: str) -> list[tuple[str, int]]:
    """Campaigns, each with its epoch, in which something is pending for this run of Redis.

    What the ledger has the fact of by now is done, and never asked about again.
    """
    async with pool.connection() as connection:
        await connection.execute(_DONE)
        rows = await connection.fetch(_WAITING, run)
    return [(row["campaign_id"], row["epoch"]) for row in rows]


async def pending(
    pool: Pool, campaign_id: str, epoch: int, run: str, after: int, most: int
) -> list[Pending]:
    """The next of them in a campaign, by serial, at most `most`."""
    async with pool.connection() as connection:
        rows = await connection.fetch(_PENDING, campaign_id, after, epoch, run, most)
    return [Pending(*row) for row in rows]


async def mark(pool: Pool, campaign_id: str, serials: Sequence[int], epoch: int, run: str) -> None:
    """Redis has these, in this epoch and run."""
    async with pool.connection() as connection:
        await connection.execute(
            "UPDATE returns SET epoch = $3, run = $4"
            " WHERE campaign_id = $1 AND serial = ANY($2::bigint[])",
            campaign_id,
            list(serials),
            epoch,
            run,
        )


async def is_applied(pool: Pool, campaign_id: str, serial: int) -> bool:
    """Whether Redis has had this return in the campaign's present epoch."""
    async with pool.connection() as connection:
        return bool(await connection.fetchval(_IS_APPLIED, campaign_id, serial))


async def state(pool: Pool, campaign_id: str, serial: int) -> str | None:
    """The coupon's state; None where the ledger has none."""
    query = "SELECT state FROM coupons WHERE campaign_id = $1 AND serial = $2"
    async with pool.connection() as connection:
        found: str | None = await connection.fetchval(query, campaign_id, serial)
    return found
