"""Brings Redis the blocklist and the segments that the ledger has, and keeps them there.

What is there is known by its stamp: where the stamps differ (a change, a Redis that lost its data,
another server, a restored ledger) the whole list is written anew.
"""

import asyncio
import contextlib
import time

import structlog

from flashgrab.clock import Clock
from flashgrab.errors import FlashgrabError, StoreRefused
from flashgrab.ledger import blocks, segments
from flashgrab.ledger.pool import Pool
from flashgrab.list_commands import SegmentHead
from flashgrab.store import Store

PAUSE_MS = 500
"""Between two looks while nobody wakes the loop; a Redis that lost its lists has them again then,
and each gateway after another half second."""
LOOK_MS = 10
"""Between two looks of a request that waits for the loop."""

log = structlog.get_logger()


class Lists:
    """The loop. `troubles` says by campaign why Redis refuses its segment."""

    def __init__(self, pool: Pool, store: Store, clock: Clock, *, pause_ms: int = PAUSE_MS) -> None:
        self.troubles: dict[str, str] = {}
        self._pool = pool
        self._store = store
        self._clock = clock
        self._pause_ms = pause_ms
        self._woken = asyncio.Event()
        self._said = ""

    async def run(self) -> None:
        """For ever. Redis or PostgreSQL being away is waited for: the applier alarms."""
        while True:
            self._woken.clear()
            try:
                await self.catch_up()
                self._said = ""
            except FlashgrabError as error:
                log.debug("lists_wait", error=str(error))
            except Exception as error:
                if repr(error) != self._said:  # the loop outlives a fault of ours, said once
                    self._said = repr(error)
                    log.exception("lists_failed")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_ms / 1000):
                    await self._woken.wait()

    async def catch_up(self) -> None:
        """One round. Raises StoreUnavailable and LedgerUnavailable; then nothing is lost."""
        kept = await segments.kept(self._pool, self._clock.now_ms())
        there = await self._store.list_stamps([segment.campaign_id for segment, _ in kept])
        wanted = await blocks.stamp(self._pool)
        if wanted and wanted != there.blocks:
            stamp, entries = await blocks.entries(self._pool)
            await self._store.put_blocks(stamp, entries)
            log.info("blocklist_written", entries=len(entries))
        for segment, is_due in kept:
            stamp = there.segments[segment.campaign_id]
            if stamp != (segment.stamp if is_due else ""):
                await self._segment(segment, is_due)

    async def _segment(self, segment: segments.Kept, is_due: bool) -> None:
        """One campaign's list; one that Redis refuses does not hold up the others."""
        campaign_id = segment.campaign_id
        head = SegmentHead(segment.stamp, segment.key, segment.members, segment.chunks)
        try:
            if is_due:
                parts = segments.chunks(self._pool, segment)
                await self._store.put_segment(campaign_id, head, parts)
                log.info("segment_written", campaign=campaign_id, members=segment.members)
            else:
                await self._store.forget_segment(campaign_id)
            self.troubles.pop(campaign_id, None)
        except StoreRefused as error:
            if self.troubles.get(campaign_id) != str(error):
                log.warning("segment_refused", campaign=campaign_id, error=str(error))
            self.troubles[campaign_id] = str(error)

    async def agreed(self, campaign_id: str, within_ms: int) -> bool:
        """Wake the loop, and wait until Redis has the ledger's segment of a campaign (of "": its
        blocklist), whoever else changes it meanwhile; False where it takes longer."""
        until = time.monotonic() + within_ms / 1000
        while not await self._agree(campaign_id):
            if time.monotonic() > until:
                return False
            self._woken.set()
            await asyncio.sleep(LOOK_MS / 1000)
        return True

    async def _agree(self, campaign_id: str) -> bool:
        with contextlib.suppress(FlashgrabError):
            there = await self._store.list_stamps([campaign_id] if campaign_id else [])
            if not campaign_id:
                return there.blocks == await blocks.stamp(self._pool)
            kept = await segments.kept(self._pool, self._clock.now_ms())
            due = {s.campaign_id: s.stamp for s, is_due in kept if is_due}
            return there.segments[campaign_id] == due.get(campaign_id, "")
        return False
