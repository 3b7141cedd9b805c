"""Coupons for the centre's tests: granted by the real script, and written into the ledger."""

from collections.abc import Sequence
from typing import Any

from flashgrab import keys, scripts
from flashgrab.events import OutboxEntry
from flashgrab.ledger.pool import Pool
from flashgrab.store import Store

OPEN = {"opens_at": "2026-01-01T00:00:00Z", "closes_at": "2099-01-01T00:00:00Z", "quota": 10}
"""A round that is open by every clock of these tests."""


async def grab(store: Store, campaign_id: str, requests: Sequence[tuple[str, str, str]]) -> Any:
    """One call of grab.lua with (user, device, request id) each; its results."""
    state = await store.read(campaign_id)
    assert state is not None
    last = len(state.rounds)
    touched = [keys.campaign(campaign_id), keys.holders(campaign_id), keys.devices(campaign_id)]
    touched += [keys.outbox(campaign_id), keys.round_(campaign_id, 1)]
    touched.append(keys.round_(campaign_id, min(2, last)))
    args: list[Any] = [state.schema, state.epoch, state.run, 0, 1, 0, state.rounds[-1].closes_at]
    for request in requests:
        args += request
    verdict, *_, left, results = _parted(await store.run(scripts.GRAB, touched, args))
    assert verdict == 0, (verdict, left)
    return results


def _parted(reply: list[Any]) -> list[Any]:
    return [*reply[:7], reply[7:]]


async def persisted(store: Store, pool: Pool, campaign_id: str) -> None:
    """Every granted fact of the outbox as a row of the ledger, as the worker writes it."""
    for entry in await store.outbox(campaign_id, 0, entries_max=10_000):
        assert isinstance(entry, OutboxEntry)
        for fact in entry.facts(campaign_id):
            async with pool.connection() as connection:
                await connection.execute(
                    "INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round,"
                    " request_id, epoch, granted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
                    " ON CONFLICT DO NOTHING",
                    *(campaign_id, fact.serial, fact.seq, fact.user_id, fact.device_id),
                    *(fact.round, fact.request_id, fact.epoch, fact.at_ms),
                )


async def granted(store: Store, pool: Pool, campaign_id: str, *users: str) -> list[int]:
    """A coupon for each of these users, with key k and device d-USER, in Redis and ledger."""
    requests = [(user, f"d-{user}", "k") for user in users]
    serials: list[int] = await grab(store, campaign_id, requests)
    await persisted(store, pool, campaign_id)
    return serials
