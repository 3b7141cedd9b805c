"""What the adapter to Redis does with segments and the blocklist. Part of store.py's Store.

Each list is written beside the one that is there and then takes its place in one transaction, so
that readers see the old one or the new one. Staged parts that nobody finishes go by themselves.
"""

import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from flashgrab import keys

STAMP = "stamp"
"""Field of both kinds of list. No block's name: those have a colon."""
STAGED_S = 600
PAGE = 1000
"""Blocks that are written or read by one command: more would hold up the grabs."""
_RAW = {"NEVER_DECODE": True}
"""redis-py's option for a reply that is no text."""


@dataclass(frozen=True, slots=True)
class SegmentHead:
    """Which list of users Redis has for a campaign. `key` is the mark of the secret."""

    stamp: str
    key: str
    members: int
    chunks: int


class Stamps(NamedTuple):
    """Which lists are there: "" where one is missing."""

    blocks: str
    segments: Mapping[str, str]


class ListCommands:
    """Raises StoreUnavailable and StoreRefused, as all of Store."""

    _redis: Any

    async def _do(self, command: Any) -> Any:
        raise NotImplementedError

    async def announce_lists(self) -> None:
        """Tell every gateway; a lost push costs them half a second."""
        await self._do(self._redis.publish(keys.CHANGES, keys.LISTS))

    async def list_stamps(self, campaign_ids: Sequence[str]) -> Stamps:
        """The stamps of the blocklist and of these campaigns' segments."""
        async with self._redis.pipeline(transaction=False) as pipe:
            pipe.hget(keys.BLOCKS, STAMP)
            for campaign_id in campaign_ids:
                pipe.hget(keys.segment(campaign_id), STAMP)
            blocks, *segments = await self._do(pipe.execute())
        found = {c: stamp or "" for c, stamp in zip(campaign_ids, segments, strict=True)}
        return Stamps(blocks or "", found)

    # -- the blocklist -----------------------------------------------------------------------------

    async def blocks(self) -> tuple[str, dict[str, int]] | None:
        """Stamp and entries (`kind:subject` → until, ms); None where another one came while this
        was read, or none is there. An entry whose time is no number is left out."""
        stamp = await self._do(self._redis.hget(keys.BLOCKS, STAMP))
        entries, cursor = {}, 0
        while stamp:
            cursor, page = await self._do(self._redis.hscan(keys.BLOCKS, cursor, count=PAGE))
            entries.update({n: int(until) for n, until in page.items() if until.isdecimal()})
            if not cursor:
                break
        same = await self._do(self._redis.hget(keys.BLOCKS, STAMP)) == stamp
        return (stamp, entries) if stamp and same else None

    async def put_blocks(self, stamp: str, entries: Mapping[str, int]) -> None:
        """Make these the blocklist; then tell every gateway."""
        staged, names = keys.staged_blocks(secrets.token_hex(8)), list(entries)
        await self._do(self._redis.hset(staged, STAMP, stamp))
        await self._do(self._redis.expire(staged, STAGED_S))
        for start in range(0, len(names), PAGE):
            page: dict[Any, Any] = {name: entries[name] for name in names[start : start + PAGE]}
            await self._do(self._redis.hset(staged, mapping=page))
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.persist(staged)
            pipe.rename(staged, keys.BLOCKS)
            await self._do(pipe.execute())
        await self.announce_lists()

    # -- segments ----------------------------------------------------------------------------------

    async def segment(self, campaign_id: str) -> SegmentHead | None:
        """Which segment there is; None: none, or one that nobody can read."""
        said = await self._do(self._redis.hgetall(keys.segment(campaign_id)))
        try:
            return SegmentHead(said[STAMP], said["key"], int(said["members"]), int(said["chunks"]))
        except (KeyError, ValueError):
            return None

    async def segment_chunks(self, campaign_id: str, head: SegmentHead) -> list[bytes] | None:
        """Its chunks, one command each; None where another one has taken its place meanwhile."""
        key, chunks = keys.segment_chunks(campaign_id, head.stamp), []
        for number in range(head.chunks):
            asked = self._redis.execute_command("HGET", key, number, **_RAW)
            chunks.append(await self._do(asked))
        return None if None in chunks else chunks

    async def put_segment(
        self, campaign_id: str, head: SegmentHead, chunks: AsyncIterator[bytes]
    ) -> None:
        """Make this the campaign's segment; then tell every gateway."""
        before = await self.segment(campaign_id)
        staged = keys.segment_chunks(campaign_id, head.stamp)
        number = 0
        async for chunk in chunks:
            await self._do(self._redis.hset(staged, number, chunk))
            await self._do(self._redis.expire(staged, STAGED_S))
            number += 1
        fields: dict[Any, Any] = {
            STAMP: head.stamp, "key": head.key, "members": head.members, "chunks": head.chunks,
        }  # fmt: skip
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.persist(staged)
            pipe.hset(keys.segment(campaign_id), mapping=fields)
            if before is not None and before.stamp != head.stamp:
                pipe.unlink(keys.segment_chunks(campaign_id, before.stamp))
            await self._do(pipe.execute())
        await self.announce_lists()

    async def forget_segment(self, campaign_id: str) -> None:
        """Everything of a campaign's segment."""
        head = await self.segment(campaign_id)
        gone = [keys.segment(campaign_id)]
        if head is not None:
            gone.append(keys.segment_chunks(campaign_id, head.stamp))
        await self._do(self._redis.unlink(*gone))
