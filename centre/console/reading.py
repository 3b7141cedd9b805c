"""Who may look at the console's data: staff by session or token, colleagues by a read-only link."""

from typing import Any

from starlette.requests import Request

from centre.problems import Code, Problem

SIGN_IN = "sign in, or ask a colleague for a read-only link"


async def check_reader(request: Request[Any]) -> str:
    """Who reads. Raises TOKEN_INVALID; LedgerUnavailable where nobody can say."""
    centre = request.state["centre"]
    reader = await reader_of(request)
    if reader is None:
        raise Problem(Code.TOKEN_INVALID, SIGN_IN)
    if not centre.migrated:
        raise Problem(Code.BACKEND_UNAVAILABLE, "the console starts when the ledger is migrated")
    return reader


async def reader_of(request: Request[Any]) -> str | None:
    """The id of the session or token that the request carries, or its read-only link; None where
    it carries none that is good. Raises LedgerUnavailable."""
    centre = request.state["centre"]
    if values := request.headers.getlist("authorization"):
        holder = await centre.staff.by_header(values)
        return holder.id if holder else None
    if view := request.query_params.get("view", ""):
        return view if await centre.view_links.is_good(view, centre.clock.now_ms()) else None
    session = await centre.staff.by_cookie(request)
    return session[0].id if session else None
