"""The centre's HTTP for who may get a pass: segments of campaigns, and the blocklist."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from centre.caller import CALLER
from centre.problems import Code, Problem, answer
from centre.requests import (
    AddBlock,
    RemoveBlock,
    body_of,
    campaign_id_of,
    media_of,
    operation_of,
    page_of,
    parts_of,
)
from flashgrab.blocks import Block, subject_of
from flashgrab.clock import from_rfc3339, to_rfc3339
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import blocks, segments
from flashgrab.model import TIME_MS_MAX
from flashgrab.segments import LINE_BYTES_MAX, MEMBERS_MAX, Reader, SegmentInvalid

APPLY_MS_MAX = 2000
"""How long the answer to a change waits for Redis; the change itself is safe before."""
LIST_BYTES_MAX = MEMBERS_MAX * LINE_BYTES_MAX
LIST_S_MAX = 120.0

_one_list = asyncio.Lock()
"""A list of two million takes 200 MB while it is read: one after the other."""


if TYPE_CHECKING:
    from centre.routes import Centre

WAITING = "Redis does not answer, or is slow; the centre goes on trying"


def centre_of(request: Request[Any]) -> "Centre":
    """Raises LedgerUnavailable until the ledger's schema is ours."""
    centre: Centre = request.state["centre"]
    if not centre.migrated:
        raise LedgerUnavailable("the ledger is not migrated yet")
    return centre


async def segment(request: Request[Any]) -> Response:
    """/v1/campaigns/{campaign_id}/segment, both methods: one route, as for campaigns."""
    return await (_load if request.method == "PUT" else _show)(request)


async def _load(request: Request[Any]) -> Response:
    """PUT …/segment: a list of user ids, one a line, in place of the one before."""
    operation, centre = operation_of(request), centre_of(request)
    campaign_id, key = campaign_id_of(request), centre.segment_key
    await segments.name_of(centre.pool, campaign_id)  # refused before megabytes are read
    if key is None:
        raise Problem(Code.STATUS_CONFLICT, "no segments here: set FLASHGRAB_SEGMENT_KEY")
    reader = Reader(key)
    async with _one_list:
        try:
            # closed here and now: its time-out must not outlive a list that is refused
            async with aclosing(parts_of(request, LIST_BYTES_MAX, LIST_S_MAX)) as parts:
                async for part in parts:
                    media_of(request, part, "text/plain")
                    reader.feed(part)
            loaded = await asyncio.to_thread(reader.end)
        except SegmentInvalid as error:
            raise Problem(Code.SEGMENT_INVALID, str(error)) from None
        now_ms = centre.clock.now_ms()
        result = await segments.load(centre.pool, now_ms, operation, campaign_id, key.mark, loaded)
    applied = await centre.lists.agreed(campaign_id, APPLY_MS_MAX)
    body = result.fields | {"repeated": result.repeated, "there": result.there, "applied": applied}
    if not applied:
        body["trouble"] = centre.lists.troubles.get(campaign_id, WAITING)
    return answer(body)


async def _show(request: Request[Any]) -> Response:
    """GET …/segment: how many users, and which version; nobody's id."""
    centre, campaign_id = centre_of(request), campaign_id_of(request)
    name = await segments.name_of(centre.pool, campaign_id)
    kept = await segments.get(centre.pool, campaign_id)
    return answer(
        {
            "campaign_id": campaign_id,
            "segment": name,
            "stamp": kept.stamp if kept else None,
            "members": kept.members if kept else 0,
            "loaded_at": to_rfc3339(kept.loaded_ms) if kept else None,
        }
    )


async def blocklist(request: Request[Any]) -> Response:
    """/v1/blocks, both methods."""
    return await (_add if request.method == "POST" else _list)(request)


async def _add(request: Request[Any]) -> Response:
    """POST /v1/blocks: no pass and no grab for a user, a device or a network."""
    operation_of(request)  # by nature a repeat changes nothing; all writes take a key
    body = await body_of(request, AddBlock)
    centre = centre_of(request)
    now_ms = centre.clock.now_ms()
    until_ms = None if body.until is None else _until(body.until, now_ms)
    by = body.by or request.scope[CALLER].name
    for name, text in (("why", body.why), ("by", by)):
        if not text.strip() or not text.isprintable():
            raise Problem(Code.INVALID_REQUEST, f"body: {name}: expected one line of text")
    block = Block(body.kind, _subject(body), body.why, by, until_ms, now_ms)
    await blocks.add(centre.pool, block)
    return await _changed(request, _shown(block))


async def remove(request: Request[Any]) -> Response:
    """POST /v1/blocks/remove: let somebody in again."""
    operation_of(request)
    body = await body_of(request, RemoveBlock)
    centre = centre_of(request)
    subject = _subject(body)
    was_there, _ = await blocks.remove(centre.pool, body.kind, subject)
    return await _changed(request, {"kind": body.kind, "subject": subject, "removed": was_there})


async def _changed(request: Request[Any], body: dict[str, Any]) -> Response:
    applied = await centre_of(request).lists.agreed("", APPLY_MS_MAX)
    return answer(body | {"applied": applied} | ({} if applied else {"trouble": WAITING}))


async def _list(request: Request[Any]) -> Response:
    """GET /v1/blocks?after=&limit=: what is blocked now, by kind and subject."""
    centre = centre_of(request)
    after, limit = page_of(request, blocks.PAGE_MAX, _is_name, "kind:subject")
    found = await blocks.page(centre.pool, after, centre.clock.now_ms(), limit)
    following = found[-1].name if len(found) == limit else None
    return answer({"blocks": [_shown(block) for block in found], "next": following})


def _is_name(text: str) -> bool:
    return len(text) <= 80 and text.isprintable() and text.isascii()


def _subject(body: AddBlock | RemoveBlock) -> str:
    try:
        return subject_of(body.kind, body.subject)
    except ValueError as error:
        raise Problem(Code.INVALID_REQUEST, f"body: subject: {error}") from None


def _until(text: str, now_ms: int) -> int:
    try:
        until_ms = from_rfc3339(text)
    except (ValueError, OverflowError):
        until_ms = 0
    if not now_ms < until_ms <= TIME_MS_MAX:
        detail = "body: until: expected a time to come, with its offset (2026-11-22T10:00:00+08:00)"
        raise Problem(Code.INVALID_REQUEST, detail)
    return until_ms


def _shown(block: Block) -> dict[str, Any]:
    return {
        "kind": block.kind,
        "subject": block.subject,
        "why": block.why,
        "by": block.by,
        "until": to_rfc3339(block.until_ms) if block.until_ms is not None else None,
        "since": to_rfc3339(block.at_ms),
    }


Endpoint = Callable[[Request[Any]], Awaitable[Response]]
LISTS: list[tuple[str, Endpoint, list[str]]] = [
    ("/campaigns/{campaign_id}/segment", segment, ["GET", "PUT"]),
    ("/blocks", blocklist, ["GET", "POST"]),
    ("/blocks/remove", remove, ["POST"]),
]
"""Under /v1, each for the roles of centre/access.py."""
