"""Which role may which call: one closed list over all routes of the centre.

What is not listed is refused to everybody, and a test holds the list against the application, so
a new route without an entry fails it.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from centre.caller import CALLER, READS
from centre.journal import noted
from centre.problems import Code, Problem
from flashgrab.ledger.staff import Holder
from flashgrab.staff import Role

Endpoint = Callable[[Request[Any]], Awaitable[Response]]

ANYBODY: frozenset[Role] | None = None
"""Without any credential."""
STAFF = frozenset(Role)
ADMIN = frozenset({Role.ADMIN})
OPERATING = ADMIN | {Role.OPERATOR}
PLANNING = ADMIN | {Role.MERCHANDISER}
APPROVING = ADMIN | {Role.APPROVER}

_ONE = "/v1/campaigns/{campaign_id}"
ACCESS: Mapping[tuple[str, str], frozenset[Role] | None] = {
    ("GET", "/livez"): ANYBODY,
    ("GET", "/readyz"): ANYBODY,
    ("GET", "/openapi.json"): ANYBODY,
    ("GET", "/docs"): ANYBODY,
    ("GET", "/docs/files/{name}"): ANYBODY,
    ("GET", "/docs/events/{name}"): ANYBODY,
    ("GET", "/problems"): ANYBODY,
    ("GET", "/problems/{slug}"): ANYBODY,
    # the page and its session: they look at the cookie themselves
    ("GET", "/ops"): ANYBODY,
    ("GET", "/ops/static/{name}"): ANYBODY,
    ("GET", "/ops/runbook"): ANYBODY,
    ("GET", "/ops/session"): ANYBODY,
    ("POST", "/ops/session"): ANYBODY,
    ("DELETE", "/ops/session"): ANYBODY,
    # the console's data; read-only links open it too (centre/console/reading.py)
    ("GET", "/ops/campaigns"): STAFF,
    ("GET", "/ops/history"): STAFF,
    ("GET", "/ops/stream"): STAFF,
    ("GET", "/v1/campaigns"): STAFF,
    ("GET", _ONE): STAFF,
    # who writes a campaign does not open it, and who opens it does not write it
    ("POST", "/v1/campaigns"): PLANNING,
    ("POST", f"{_ONE}/publish"): APPROVING,
    ("POST", f"{_ONE}/restock"): APPROVING,
    ("POST", f"{_ONE}/pause"): OPERATING | APPROVING,
    ("POST", f"{_ONE}/resume"): OPERATING | APPROVING,
    ("POST", f"{_ONE}/close"): OPERATING | APPROVING,
    ("POST", f"{_ONE}/rebuild"): OPERATING,
    ("POST", "/v1/grabs/{grab_id}/return"): OPERATING,
    ("GET", f"{_ONE}/segment"): STAFF,
    ("PUT", f"{_ONE}/segment"): PLANNING,
    ("GET", "/v1/blocks"): STAFF,
    ("POST", "/v1/blocks"): OPERATING,
    ("POST", "/v1/blocks/remove"): OPERATING,
    ("POST", "/v1/sign-ins"): STAFF,
    ("POST", "/v1/view-links"): STAFF,
    ("GET", "/v1/tokens"): ADMIN,
    ("POST", "/v1/tokens"): ADMIN,
    ("POST", "/v1/tokens/{id}/revoke"): ADMIN,
    ("GET", "/v1/log"): ADMIN,
}


def guarded(path: str, endpoint: Endpoint, methods: Sequence[str]) -> Route:
    """A route under /v1: for the roles of ACCESS only, each write in the staff's log."""
    full = f"/v1{path}"

    async def allowed(request: Request[Any]) -> Response:
        check(request.scope[CALLER], request.method, full)
        return await endpoint(request)

    async def called(request: Request[Any]) -> Response:
        if request.method in READS:
            return await allowed(request)
        return await noted(request, f"{request.method} {full}", allowed)

    return Route(path, called, methods=list(methods))


def may(role: Role, action: str) -> bool:
    """Whether a role may do this to a campaign: what pages show as buttons."""
    return role in (ACCESS[("POST", f"{_ONE}/{action}")] or frozenset())


def check(who: Holder, method: str, path: str) -> None:
    """Raises ROLE_FORBIDDEN."""
    roles = ACCESS.get(("GET" if method == "HEAD" else method, path)) or frozenset()
    if who.role not in roles:
        needed = " or ".join(role for role in Role if role in roles) or "nobody"
        raise Problem(Code.ROLE_FORBIDDEN, f"role {who.role} may not do this; it is for {needed}")
