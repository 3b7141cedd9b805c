"""Who is asking: ADMIN_TOKEN or a staff token in a header, or a session in a cookie.

ADMIN_TOKEN is compared first and without any I/O, in constant time: it works while PostgreSQL is
away, and nobody can revoke it but who changes the environment.
"""

import hmac
from dataclasses import dataclass

from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from centre.problems import Code, Problem, problem
from centre.request_ids import REQUEST_ID, with_id
from flashgrab.clock import Clock
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import staff
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.staff import Holder
from flashgrab.staff import ROOT, Credential, Role, read

CALLER = "flashgrab.caller"
"""Where in the scope the Holder is, for what comes after."""
NEVER_MS = 2**53
READS = ("GET", "HEAD")
EXPECTED = "expected Authorization: Bearer and a token of this centre, or a session's cookie"
CSRF_HEADER = "x-csrf-token"


@dataclass
class Staff:
    """What it takes to know a caller. `migrated` turns True once the tables are there."""

    pool: Pool
    clock: Clock
    root_token: str
    origin: str
    secure: bool
    sign_in: bool
    """Whether pages may be signed in to: over TLS, or on a loopback address."""
    migrated: bool = False

    @property
    def cookie(self) -> str:
        """The session's cookie; with the prefix a browser takes it from this origin alone."""
        return "__Host-flashgrab" if self.secure else "flashgrab"

    async def by_header(self, values: list[str]) -> Holder | None:
        """The holder of the one Bearer token; None where there is none that is valid."""
        if len(values) != 1:
            return None
        scheme, _, token = values[0].partition(" ")
        if scheme.lower() != "bearer":
            return None
        token = token.strip()
        if hmac.compare_digest(token.encode("latin-1"), self.root_token.encode()):
            return Holder(ROOT, "token", ROOT, Role.ADMIN, NEVER_MS)
        return await self.known(read("token", token))

    async def by_cookie(self, request: Request) -> tuple[Holder, Credential] | None:
        """The holder of the session; None where there is none that is valid."""
        shown = read("session", request.cookies.get(self.cookie, ""))
        holder = await self.known(shown)
        return (holder, shown) if holder and shown else None

    async def known(self, shown: Credential | None) -> Holder | None:
        """Who holds it, by the ledger. Raises LedgerUnavailable."""
        if shown is None:
            return None
        if not self.migrated:
            raise LedgerUnavailable("the ledger is not migrated yet")
        return await staff.find(self.pool, shown, self.clock.now_ms())


class StaffOnly:
    """Pure ASGI: lets a request of somebody known through, with the Holder in its scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request(scope)
            try:
                scope[CALLER] = await _caller(scope["state"]["centre"].staff, request)
            except Problem as refusal:
                answer = problem(refusal.code, refusal.detail, **refusal.fields)
                answer = with_id(answer, scope[REQUEST_ID])
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


async def _caller(known: Staff, request: Request) -> Holder:
    """A header goes before a cookie. A write by cookie must carry what only our page can know."""
    if values := request.headers.getlist("authorization"):
        if holder := await known.by_header(values):
            return holder
    elif session := await known.by_cookie(request):
        holder, shown = session
        if request.method not in READS:
            check_csrf(request, shown)
        return holder
    raise Problem(Code.TOKEN_INVALID, EXPECTED)


def check_csrf(request: Request, shown: Credential) -> None:
    """Raises CSRF_INVALID: another site made the browser send this."""
    given = request.headers.get(CSRF_HEADER, "")
    if not hmac.compare_digest(given.encode("latin-1"), shown.csrf().encode()):
        raise Problem(Code.CSRF_INVALID, "X-CSRF-Token: expected what /ops/session gave")
