"""GET /ops/stream: server-sent events, one stream a page, pulled at the reader's own pace.

Nothing is queued for a reader: each event is made when the one before it is sent, from rows that
are kept anyway. A slow one skips, a silent one is given up, and what it holds is one event.
"""

import asyncio
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from centre.console.console import READER_STREAMS_MAX, STREAMS_MAX, Console, plain
from centre.console.reading import check_reader, reader_of
from centre.console.shapes import flat, is_bare
from centre.problems import Code, Problem
from flashgrab.errors import FlashgrabError
from flashgrab.ids import is_campaign_id
from flashgrab.recent import KEPT_MS

SEND_S_MAX = 10.0
"""A reader that takes nothing for so long is given up."""
CHECK_MS = 5000
"""How often a stream looks whether its reader may still read."""
RETRY_MS = 1000
GONE = (TimeoutError, OSError)
"""What a reader that is gone, or takes nothing, ends its stream with."""


async def stream(request: Request[Any]) -> Response:
    """Until the page goes away, or may not read any more."""
    reader = await check_reader(request)
    campaign_id = request.query_params.get("campaign")
    if campaign_id is None or (campaign_id and not is_campaign_id(campaign_id)):
        raise Problem(Code.INVALID_REQUEST, "query: campaign: expected a campaign id, or nothing")
    centre = request.state["centre"]
    if centre.console.readers.total() >= STREAMS_MAX:
        raise Problem(Code.BACKEND_UNAVAILABLE, f"{STREAMS_MAX} pages are told already")
    if centre.console.readers[reader] >= READER_STREAMS_MAX:
        raise Problem(Code.BACKEND_UNAVAILABLE, f"{READER_STREAMS_MAX} pages read by this already")
    return _Stream(request, centre, campaign_id, reader)


class _Stream(Response):
    """The answer: it has no end of its own."""

    media_type = "text/event-stream"

    def __init__(self, request: Request[Any], centre: Any, campaign_id: str, reader: str) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(None, 200, headers, self.media_type)
        del self.headers["content-length"]
        self._request = request
        self._centre = centre
        self._campaign_id = campaign_id
        self._reader = reader

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        console = self._centre.console
        places = (console.selected, self._campaign_id), (console.readers, self._reader)
        for places_of, name in places:
            places_of[name] += 1
        gone = asyncio.create_task(_until_gone(receive))
        telling = asyncio.create_task(self._tell(send))
        try:
            await asyncio.wait({gone, telling}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            telling.cancel()
            _, fault = await asyncio.gather(gone, telling, return_exceptions=True)
            for places_of, name in places:
                places_of[name] -= 1
                if places_of[name] <= 0:
                    del places_of[name]
        if isinstance(fault, Exception) and not isinstance(fault, GONE):
            console.failed(fault)

    async def _tell(self, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        await _send(send, f"retry: {RETRY_MS}\n\n".encode(), True)
        centre, console = self._centre, self._centre.console
        had = self._request.headers.get("last-event-id", "")
        until = int(had) if had.isascii() and had.isdigit() and len(had) < 16 else 0
        now_ms = centre.clock.now_ms()
        is_whole = not now_ms - KEPT_MS <= until <= now_ms
        if is_whole:
            until = 0
        checked_ms = centre.clock.monotonic_ms()
        while not centre.is_stopping():
            data = tick(console, self._campaign_id, until, is_whole)
            until, is_whole = data["until"], False
            event = b"event: tick\nid: %d\ndata: %s\n\n" % (until, orjson.dumps(data))
            async with asyncio.timeout(SEND_S_MAX):
                await _send(send, event, True)
            if centre.clock.monotonic_ms() - checked_ms >= CHECK_MS:
                checked_ms = centre.clock.monotonic_ms()
                if not await self._may_go_on():
                    break
            await console.told()
        await _send(send, b"", False)

    async def _may_go_on(self) -> bool:
        """While nobody can say, who was let in stays: the page is wanted most of all then."""
        try:
            return await reader_of(self._request) is not None
        except FlashgrabError:
            return True


def tick(console: Console, campaign_id: str, since_ms: int, is_whole: bool) -> dict[str, Any]:
    """One event (centre/console/shapes.py has its shape)."""
    until, rows = console.joined.since(since_ms)
    seconds = [s for s in console.seconds if s.t >= since_ms - 2000]
    book = console.books.now.get(campaign_id)
    return {
        "whole": is_whole,
        "now": console.clock.now_ms(),
        "until": until,
        "rows": _flat(rows, campaign_id),
        "seconds": _flat(seconds, campaign_id),
        "campaign": console.campaign(campaign_id),
        "book": plain(book) if book else None,
        "parts": [plain(part) for part in console.parts()],
        "alarms": console.alarms(),
        "notes": console.notes(campaign_id),
        "ledger": console.books.ledger,
        "bounds": console.bounds,
    }


def _flat(rows: Any, campaign_id: str) -> list[dict[str, Any]]:
    return [one for one in (flat(row, campaign_id) for row in rows) if not is_bare(one)]


async def _send(send: Send, body: bytes, more: bool) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
