"""Is everything there that management needs?"""

import asyncio
from collections.abc import Awaitable

from flashgrab.ledger.migrate import schema_is_ours
from flashgrab.ledger.pool import Pool
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


async def _answers(check: Awaitable[object]) -> object | None:
    """What a check says; None where it does not, in time or at all."""
    try:
        async with asyncio.timeout(CHECK_S_MAX):
            return await check
    except Exception:  # whatever it is: a check that fails says that its service is missing
        return None
