"""Facts of epochs that a rebuild has closed (rebuilds.py): repeats, or too late for ever."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flashgrab.events import Fact

if TYPE_CHECKING:
    import asyncpg
    from asyncpg.pool import PoolConnectionProxy

    Connection = PoolConnectionProxy[asyncpg.Record]

CLOSED_EPOCH = "CLOSED_EPOCH"
"""Why such a fact is a dead letter."""

# KEY SHARE waits for a cut and holds one up, but no other management change
_EPOCHS = """
SELECT campaign_id, epoch FROM campaigns WHERE campaign_id = ANY($1::text[])
ORDER BY campaign_id FOR KEY SHARE
"""

_LATE = """
SELECT f.n - 1 AS n
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::boolean[])
     WITH ORDINALITY AS f(campaign_id, serial, seq, epoch, back, n)
JOIN campaigns c USING (campaign_id)
WHERE f.epoch < c.epoch AND NOT EXISTS (
    SELECT FROM coupons p WHERE p.campaign_id = f.campaign_id AND p.serial = f.serial
    AND (NOT f.back OR p.returned_seq = f.seq))
"""


async def late(connection: "Connection", facts: Sequence[Fact]) -> frozenset[int]:
    """Which of them, by place, are of a closed epoch and were not in the ledger at its cut.

    Their seqs are void, and their stock may be somebody else's by now. The campaigns' epochs stand
    until the transaction ends: no fact of an old epoch can be written beside the cut.
    """
    kinds = {(fact.campaign_id, fact.epoch) for fact in facts}
    rows = await connection.fetch(_EPOCHS, sorted({campaign_id for campaign_id, _ in kinds}))
    epochs = {row["campaign_id"]: row["epoch"] for row in rows}
    if all(epoch >= epochs.get(campaign_id, 0) for campaign_id, epoch in kinds):
        return frozenset()
    found = await connection.fetch(
        _LATE,
        [fact.campaign_id for fact in facts],
        [fact.serial for fact in facts],
        [fact.seq for fact in facts],
        [fact.epoch for fact in facts],
        [fact.event == "grab.returned" for fact in facts],
    )
    return frozenset(row["n"] for row in found)
