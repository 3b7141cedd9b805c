"""What a rebuild does in Redis, by the scripts: fence, stage in pages, switch."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from flashgrab import keys, scripts
from flashgrab.store import OUTBOX_MAX, Store

PAGE = 250
"""Fields of one call of stage.lua: about 2 ms of a Redis whose machine is busy."""

FENCED_RUN = "rebuild"
"""The run of a campaign that is being rebuilt (lua/fence.lua)."""

FENCED, FENCE_MISSING, FENCE_EPOCH = range(3)
REBUILT, ALREADY, LATER_EPOCH, INCOMPLETE = range(4)
"""The codes of lua/fence.lua and lua/rebuild.lua."""


class Fence(NamedTuple):
    """What fence.lua said: its code, the last seq, and whether the server knows every fact."""

    code: int
    seq: int
    whole: bool


class SeedRound(NamedTuple):
    """A round of the new epoch: times in ms, the rest in coupons."""

    opens_at: int
    closes_at: int
    quota: int
    granted: int
    returned: int


async def fence(store: Store, campaign_id: str, epoch: int, run: str) -> Fence:
    """lua/fence.lua: nothing more is granted in this epoch."""
    reply = await store.run(scripts.FENCE, [keys.campaign(campaign_id)], [epoch, run])
    return Fence(int(reply[0]), int(reply[1]), bool(reply[2]))


async def begin(store: Store, campaign_id: str, epoch: int) -> None:
    """lua/stage.lua: stage anew."""
    await store.run(scripts.STAGE, _staged(campaign_id), [epoch, "begin"])


async def stage(
    store: Store,
    campaign_id: str,
    epoch: int,
    page: Literal["holders", "devices"],
    rows: AsyncIterator[tuple[str, str]],
) -> int | None:
    """lua/stage.lua: all fields of one hash. How many; None where somebody else stages now."""
    count, words = 0, list[str]()
    async for name, value in rows:
        words += (name, value)
        count += 1
        if len(words) == 2 * PAGE:
            if not await _page(store, campaign_id, epoch, page, words):
                return None
            words = []
    if words and not await _page(store, campaign_id, epoch, page, words):
        return None
    return count


async def _page(
    store: Store, campaign_id: str, epoch: int, page: str, words: Sequence[str]
) -> bool:
    reply = await store.run(scripts.STAGE, _staged(campaign_id), [epoch, page, *words])
    return bool(reply[0] == 0)


async def switch(
    store: Store,
    campaign_id: str,
    *,
    schema: str,
    epoch: int,
    run: str,
    version: int,
    operation: str,
    definition: Mapping[str, Any],
    per_user: int,
    per_device: int,
    status: str,
    seq: int,
    users: int,
    devices: int,
    rounds: Sequence[SeedRound],
    outbox_max: int = OUTBOX_MAX,
) -> int:
    """lua/rebuild.lua: the campaign opens in its new epoch. Returns its code."""
    touched = [keys.campaign(campaign_id), keys.holders(campaign_id), keys.devices(campaign_id)]
    touched += [keys.outbox(campaign_id), *_staged(campaign_id)]
    touched += [keys.round_(campaign_id, number) for number in range(1, len(rounds) + 1)]
    args: list[str | int] = [schema, epoch, run, version, operation]
    args += [json.dumps(definition), per_user, per_device, outbox_max, status, seq, users, devices]
    for round_ in rounds:
        args += round_
    return int((await store.run(scripts.REBUILD, touched, args))[0])


def _staged(campaign_id: str) -> list[str]:
    return [
        keys.staged(campaign_id),
        keys.staged_holders(campaign_id),
        keys.staged_devices(campaign_id),
    ]
