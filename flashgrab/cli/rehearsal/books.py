"""The verdict of the complete audit on the campaigns of a rehearsal."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

from flashgrab.cli.failure import fail
from flashgrab.cli.target import Target, unreachable
from flashgrab.clock import SystemClock
from flashgrab.errors import LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger.pool import Pool
from flashgrab.store import Store
from worker.audit import Audit, NotCaughtUp, Report

DRAIN_S = 30.0
"""Time that the ledger has to catch up, for all campaigns together."""
AGAIN_S = 0.5


async def audit(target: Target, campaign_ids: Sequence[str], drain_s: float = DRAIN_S) -> Report:
    """What `flashgrab audit --drain 30s` says of these campaigns. Exit 2 where it cannot."""
    ends_s = time.monotonic() + drain_s
    while True:
        try:
            return await _audit(target, campaign_ids, ends_s)
        except (LedgerUnavailable, StoreUnavailable, StoreRefused) as error:
            if time.monotonic() < ends_s:  # a service that was killed comes back in this time
                await asyncio.sleep(AGAIN_S)
            elif isinstance(error, LedgerUnavailable):
                unreachable("the ledger", target.postgres_url, error)
            else:
                unreachable("Redis", target.redis_url, error)
        except NotCaughtUp as error:
            fail(str(error))


async def _audit(target: Target, campaign_ids: Sequence[str], ends_s: float) -> Report:
    pool = Pool(target.postgres_url, 2)
    reports = []
    try:
        async with Store(target.redis_url) as store:
            auditor = Audit(pool, store, SystemClock())
            for campaign_id in campaign_ids:
                left_ms = max(int((ends_s - time.monotonic()) * 1000), 1)
                reports += (await auditor.run(campaign_id, left_ms)).campaigns
    finally:
        await pool.close()
    return Report(reports, [])


def lines(report: Any) -> list[str]:
    """The verdict in a line; where it is bad, a line for each kind of damage of a campaign."""
    if report.ok:
        count = len(report.campaigns)
        return [f"the books balance: I1 to I6 in {count} campaign{'s' * (count != 1)}"]
    said = []
    for campaign in report.campaigns:
        by_damage: dict[Any, list[str]] = {}
        for finding in campaign.findings:
            by_damage.setdefault(finding.damage, []).append(f"{finding.subject} {finding.detail}")
        for damage, some in by_damage.items():
            meaning = damage.value
            said.append(
                f"{campaign.campaign_id}: {damage.name} ({meaning.invariant}): {meaning.words}:"
                f" {some[0].strip()}" + (f" and {len(some) - 1:,} more" if len(some) > 1 else "")
            )
    return [*said, "the books do NOT balance"]
