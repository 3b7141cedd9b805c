"""Who may hold something in a campaign: a compact filter, loaded once when nothing can be granted.

A refusal from memory must never meet a winner. Nobody is granted anything while a campaign is sold
out, paused, not open or over (in its generation), so the holders of that moment are all there are.
The filter may take a stranger for a holder (1 in 1,500), never a holder for a stranger.
"""

import asyncio

import structlog

from flashgrab.errors import FlashgrabError
from flashgrab.store import Store
from gateway.campaigns import Campaign

HOLDERS_MAX = 4_000_000
"""Holders and devices of one campaign; past it nobody is refused from memory there."""
BITS_EACH = 32
PROBES = 3
LOAD_PAUSE_MS = 500
"""Between two loads of one campaign, whose facts may go on (returns do)."""
LOADS_MAX = 2
"""Campaigns that are loaded at once, so that grabs keep the loop and Redis."""

log = structlog.get_logger()


class Filter:
    """A Bloom filter of user and device ids, for a number of them that is known beforehand."""

    def __init__(self, size: int) -> None:
        bits = 1024
        while bits < size * BITS_EACH:
            bits *= 2
        self.mask = bits - 1
        self.bits = bytearray(bits // 8)

    def add(self, name: bytes) -> None:
        """`name` is hashed with the process' own random key: nobody can aim at collisions."""
        bits, mask, h = self.bits, self.mask, hash(name)
        for _ in range(PROBES):
            bits[(h & mask) >> 3] |= 1 << (h & 7)
            h >>= 17

    def may_hold(self, name: bytes) -> bool:
        """False only where the name was never added."""
        bits, mask, h = self.bits, self.mask, hash(name)
        return bool(
            bits[(h & mask) >> 3] & 1 << (h & 7)
            and bits[(h >> 17 & mask) >> 3] & 1 << (h >> 17 & 7)
            and bits[(h >> 34 & mask) >> 3] & 1 << (h >> 34 & 7)
        )

    @property
    def bytes(self) -> int:
        """What it takes of memory."""
        return len(self.bits)


class Holders:
    """The filter of one campaign, and for which of its facts it is good: all up to a seq."""

    def __init__(self, campaign: Campaign, store: Store, slots: asyncio.Semaphore) -> None:
        self._campaign = campaign
        self._store = store
        self._slots = slots
        self._filter: Filter | None = None
        self._epoch, self._seq = 0, -1  # of the facts that the filter is good for
        self._loading: asyncio.Task[None] | None = None

    def complete(self) -> Filter | None:
        """The filter, where it has all who hold a coupon here; else None, and it is loading."""
        campaign = self._campaign
        if campaign.state is None:
            return None
        if (self._epoch, self._seq) == (campaign.state.epoch, campaign.floor):
            return self._filter
        self._load_soon()
        return None

    async def stop(self) -> None:
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)

    def _load_soon(self) -> None:
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name="holders")

    async def _load(self) -> None:
        async with self._slots:
            try:
                await self._read()
            except FlashgrabError as error:
                log.debug("holders_not_loaded", error=str(error))
            except Exception:
                log.exception("holders_not_loaded", campaign=self._campaign.campaign_id)
        await asyncio.sleep(LOAD_PAUSE_MS / 1000)

    async def _read(self) -> None:
        """Count, then walk by HSCAN; good only if nothing was granted meanwhile."""
        campaign = self._campaign
        state = await self._store.read(campaign.campaign_id)
        campaign.update(state)
        if state is None or campaign.state is None:
            return
        good_for = (campaign.state.epoch, campaign.floor)
        limited = bool(campaign.state.per_device)
        users, devices = await self._store.holder_counts(campaign.campaign_id)
        size = users + (devices if limited else 0)
        if size > HOLDERS_MAX:
            return
        found = Filter(size)
        async for user_id, _ in self._store.holders(campaign.campaign_id):
            found.add(user_id.encode())
        if limited:
            async for device_id in self._store.device_ids(campaign.campaign_id):
                found.add(b"/" + device_id.encode())
        if good_for == (campaign.state.epoch, campaign.floor):
            self._filter = found
            self._epoch, self._seq = good_for
