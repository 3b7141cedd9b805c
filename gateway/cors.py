"""Cross-origin use (contract §2): one set of options, for the middleware and for the lane."""

from collections.abc import Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import Message, Receive, Scope, Send


def options(origins: Sequence[str]) -> dict[str, Any]:
    """What Starlette's CORSMiddleware is made with."""
    return {
        "allow_origins": origins,
        "allow_methods": ["GET", "POST"],
        "allow_headers": [
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "X-Device-Id",
            "X-Challenge-Answer",
            "X-Claim",
            "X-Page-Stamp",
        ],
        "expose_headers": ["Retry-After", "Location", "RateLimit", "RateLimit-Policy"],
        "max_age": 7200,
    }


class Cors:
    """The header lines that the middleware adds to an answer, as bytes."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._middleware = CORSMiddleware(_nothing, **options(origins)) if origins else None

    def lines(self, origin: bytes | None) -> bytes:
        """For a request with this Origin; None: it has none."""
        if self._middleware is None:
            return b""
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        pairs = [] if origin is None else [(b"origin", origin)]
        asked: Scope = {"type": "http", "method": "POST", "headers": pairs}
        start: Message = {"type": "http.response.start", "status": 200, "headers": []}
        call = self._middleware.send(start, send=send, request_headers=Headers(scope=asked))
        try:
            call.send(None)
        except StopIteration:
            return b"".join(b"%b: %b\r\n" % pair for pair in sent[0]["headers"])
        raise RuntimeError("the middleware waits for something")


async def _nothing(_scope: Scope, _receive: Receive, _send: Send) -> None:
    return
