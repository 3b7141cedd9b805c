"""The blocklist and the segments as this process has them: by the push, and by their stamps, which
are looked at twice a second. What Redis has lost is kept: the centre brings it there again.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from flashgrab import keys
from flashgrab.blocks import NOBODY, Blocklist
from flashgrab.errors import FlashgrabError, StoreRefused
from flashgrab.segments import Segment, SegmentKey
from flashgrab.store import Store
from flashgrab.tasks import end
from gateway.campaigns import Catalogue

POLL_MS = 500
"""Half of the second in which every gateway has a change whose push was lost."""
FIRST_MS = 50
"""The same until everything was read once: nothing is served before."""
RESUBSCRIBE_MS = 200
MEMBERS_MAX = 8_000_000
"""Of all segments of a process together: 128 MB."""

log = structlog.get_logger()


class Lists:
    """One a process. `on_blocklist` hears of every new blocklist."""

    def __init__(self, store: Store, catalogue: Catalogue, key: SegmentKey | None) -> None:
        self.blocklist = NOBODY
        self.loaded = False
        self.on_blocklist: Callable[[Blocklist], None] = lambda _blocklist: None
        self._store = store
        self._catalogue = catalogue
        self._key = key
        self._stamp = ""
        self._segments: dict[str, Segment] = {}
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._said: dict[str, str] = {}

    def holds(self, campaign_id: str, user_id: str) -> bool | None:
        """Whether a user is in a campaign's segment; None where it is not known here."""
        segment = self._segments.get(campaign_id)
        if segment is None or self._key is None:
            return None
        return segment.has(self._key.digest(user_id.encode()))

    def start(self) -> None:
        names = {"lists": self._look(), "lists push": self._follow()}
        self._tasks = [asyncio.create_task(run, name=name) for name, run in names.items()]

    async def stop(self) -> None:
        await end(self._tasks)

    async def _look(self) -> None:
        while True:
            self._due.clear()
            all_known = self._catalogue.loaded
            if await self._survives(self._refresh()) and all_known:
                self.loaded = True
            pause_ms = POLL_MS if self.loaded else FIRST_MS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_ms / 1000):
                    await self._due.wait()

    async def _follow(self) -> None:
        while True:
            await self._survives(self._hear())
            await asyncio.sleep(RESUBSCRIBE_MS / 1000)

    async def _hear(self) -> None:
        async for name in self._store.changes():
            if name == keys.LISTS:
                self._due.set()

    async def _survives(self, step: Coroutine[Any, Any, None]) -> bool:
        """Whether it went well; neither Redis being away nor a fault of ours ends the loops."""
        try:
            await step
        except FlashgrabError as error:
            log.debug("lists_not_read", error=str(error))
            return False
        except Exception as error:
            self._say("", "lists_not_read", error=repr(error))
            return False
        return True

    async def _refresh(self) -> None:
        """Read what has another stamp than what is here."""
        wanted = [
            c.campaign_id
            for c in self._catalogue
            if c.state is not None and c.state.definition.get("audience") == "segment"
        ]
        there = await self._store.list_stamps(wanted)
        if there.blocks and there.blocks != self._stamp:
            await self._read_blocks()
        for gone in self._segments.keys() - set(wanted):
            del self._segments[gone]
        for campaign_id in wanted:
            known = self._segments.get(campaign_id)
            stamp = there.segments[campaign_id]
            if stamp and (known is None or known.stamp != stamp):
                await self._read_segment(campaign_id)

    async def _read_blocks(self) -> None:
        found = await self._store.blocks()
        if found is None:
            return  # another one came meanwhile: by its push, or at the next look
        self._stamp, self.blocklist = found[0], Blocklist(found[1])
        self.on_blocklist(self.blocklist)
        log.info("blocklist_read", entries=len(found[1]))

    async def _read_segment(self, campaign_id: str) -> None:
        """One campaign's list; what is wrong with it does not hold up the others."""
        try:
            head = await self._store.segment(campaign_id)
            if head is None:
                return
            if self._key is None or head.key != self._key.mark:
                self._say(campaign_id, "segment_of_another_key", stamp=head.stamp)
                return
            others = sum(s.members for c, s in self._segments.items() if c != campaign_id)
            if others + head.members > MEMBERS_MAX:
                self._say(campaign_id, "segments_too_large", members=others + head.members)
                return
            chunks = await self._store.segment_chunks(campaign_id, head)
            if chunks is None:
                return
            self._segments[campaign_id] = Segment(head.stamp, chunks)
        except (StoreRefused, ValueError) as error:
            self._say(campaign_id, "segment_unreadable", error=str(error))
        else:
            self._said.pop(campaign_id, None)
            log.info("segment_read", campaign=campaign_id, members=head.members)

    def _say(self, campaign_id: str, event: str, **fields: Any) -> None:
        """Once, until it is another thing that is wrong."""
        said = f"{event} {fields}"
        if self._said.get(campaign_id) != said:
            self._said[campaign_id] = said
            log.error(event, campaign=campaign_id, **fields)
