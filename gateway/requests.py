"""What routes read of a request in the same way."""

from starlette.requests import ClientDisconnect, Request

from flashgrab.outcomes import Outcome
from gateway.gateway import State

BODY_BYTES_MAX = 4096
CLOCKS_DIFFER = "The clocks of this gateway and of Redis differ; passes cannot be judged."


def bearer(authorization: bytes) -> str:
    """The token of `Bearer TOKEN` (the scheme in any case), "" where there is none."""
    if authorization[:7].lower() != b"bearer ":
        return ""
    return authorization[7:].strip(b" ").decode("latin-1")


async def read_body(request: Request[State]) -> bytes | Outcome:
    """The whole of it, or why not."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > BODY_BYTES_MAX:
                return Outcome.REQUEST_TOO_LARGE
    except ClientDisconnect:
        return Outcome.INVALID_REQUEST
    return body


async def bad_body(request: Request[State]) -> Outcome | None:
    """What is wrong with a body that should be empty; None: nothing."""
    body = await read_body(request)
    if isinstance(body, Outcome):
        return body
    return Outcome.INVALID_REQUEST if body else None
