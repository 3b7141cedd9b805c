"""Everything the centre refuses, as a closed list, and how it looks (RFC 9457)."""

import random
from enum import Enum
from typing import Any, NamedTuple

import orjson
from starlette.responses import Response


class Refusal(NamedTuple):
    """Status, title, and how long to wait where that makes sense."""

    status: int
    title: str
    retry_after_ms: int = 0


class Code(Enum):
    """Every refusal of the centre."""

    INVALID_REQUEST = Refusal(400, "Invalid request")
    IDEMPOTENCY_KEY_INVALID = Refusal(400, "Invalid Idempotency-Key")
    TOKEN_INVALID = Refusal(401, "Token not valid")
    CSRF_INVALID = Refusal(403, "Not sent by our page")
    ROLE_FORBIDDEN = Refusal(403, "Not for this role")
    SIGN_IN_NEEDS_TLS = Refusal(403, "Pages need TLS")
    TOKEN_NOT_FOUND = Refusal(404, "No such token")
    CAMPAIGN_NOT_FOUND = Refusal(404, "No such campaign")
    GRAB_NOT_FOUND = Refusal(404, "No such grab")
    NOT_FOUND = Refusal(404, "No such address")
    METHOD_NOT_ALLOWED = Refusal(405, "Method not allowed")
    REQUEST_TIMEOUT = Refusal(408, "Request too slow")
    CAMPAIGN_EXISTS = Refusal(409, "Campaign exists")
    ALREADY_RETURNED = Refusal(409, "Returned before")
    NOT_RETURNABLE = Refusal(409, "Not to be returned in this state")
    BLOCKLIST_FULL = Refusal(409, "Blocklist full")
    STATUS_CONFLICT = Refusal(409, "Not allowed in this status")
    REQUEST_TOO_LARGE = Refusal(413, "Request too large")
    MEDIA_TYPE_UNKNOWN = Refusal(415, "Media type not known")
    DEFINITION_INVALID = Refusal(422, "Definition not valid")
    SEGMENT_INVALID = Refusal(422, "List of users not valid")
    IDEMPOTENCY_KEY_REUSED = Refusal(422, "Idempotency-Key used before")
    INTERNAL_ERROR = Refusal(500, "Internal error")
    BACKEND_UNAVAILABLE = Refusal(503, "Temporarily unavailable", 1000)


class Problem(Exception):
    """Ends a request with a refusal; `fields` go into its body."""

    def __init__(self, code: Code, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.fields = fields

    @property
    def retriable(self) -> bool:
        """Whether the same call may succeed later: then it is no fault of ours either."""
        return self.code.value.retry_after_ms > 0


def problem(code: Code, detail: str, **fields: Any) -> Response:
    """The answer to a refused request."""
    refusal = code.value
    body: dict[str, Any] = {
        "type": f"/problems/{code.name.lower().replace('_', '-')}",
        "title": refusal.title,
        "status": refusal.status,
        "code": code.name,
        "detail": detail,
        **fields,
    }
    headers = {"Cache-Control": "no-store"}
    if refusal.retry_after_ms:
        body["retry_after_ms"] = refusal.retry_after_ms + random.randrange(refusal.retry_after_ms)
        headers["Retry-After"] = str(-(-body["retry_after_ms"] // 1000))
    if refusal.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if refusal.status in (408, 413):
        headers["Connection"] = "close"
    return Response(orjson.dumps(body), refusal.status, headers, "application/problem+json")


def answer(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """The answer to a request that is not refused; nobody keeps a copy of it."""
    shown = {"Cache-Control": "no-store"} | (headers or {})
    return Response(orjson.dumps(body), status, shown, "application/json")
