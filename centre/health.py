"""Is everything there that management needs?"""

import asyncio
from collections.abc import Awaitable

from flashgrab.ledger import progress
from flashgrab.ledger.campaigns import Campaign
from flashgrab.ledger.migrate import schema_is_ours
from flashgrab.ledger.pool import Pool
from flashgrab.rebuilding import FENCED_RUN
from flashgrab.state import CampaignState
from flashgrab.store import Store

CHECK_S_MAX = 1.0


async def missing(pool: Pool, store: Store) -> list[str]:
    """What is missing of postgresql, schema and redis; empty when all is well."""
    redis, ledger = await asyncio.gather(_answers(store.now_ms()), _answers(schema_is_ours(pool)))
    found = []
    if ledger is None:
        found.append("postgresql")
    elif not ledger:
        found.append("schema")
    if redis is None:
        found.append("redis")
    return found


async def rebuild_needed(
    pool: Pool, store: Store, campaign: Campaign, state: CampaignState | None, run: str
) -> str:
    """Why nothing but a rebuild opens this campaign again, "" where something else may."""
    if not campaign.applied_version:
        return ""
    command = f"`flashgrab campaign rebuild {campaign.campaign_id}`"
    if state is None:
        return f"rebuild needed: Redis has lost it; nothing is granted until {command}"
    if state.run in (run, FENCED_RUN):
        return ""
    if state.epoch != campaign.epoch:
        return f"rebuild needed: Redis has epoch {state.epoch}, not {campaign.epoch}: {command}"
    reports = (await store.gateways()).values()
    floors = [r.floors.get(campaign.campaign_id, 0) for r in reports]
    seq = max([*floors, await progress.highest_seq(pool, campaign.campaign_id)])
    if state.seq >= seq:
        return ""  # it waits to be confirmed
    return f"rebuild needed: Redis knows {state.seq} facts, {seq} were given: {command}"


async def _answers(check: Awaitable[object]) -> object | None:
    """What a check says; None where it does not, in time or at all."""
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return await check
    except Exception:  # whatever it is: a check that fails says that its service is missing
        return None
