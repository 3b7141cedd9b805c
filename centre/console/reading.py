"""Who may look at the console's data: staff by session or token, colleagues by a read-only link."""

from typing import Any

from starlette.requests import Request

from centre.problems import Code, Problem

SIGN_IN = "sign in, or ask a colleague for a read-only link"


async def check_reader(request: Request[Any]) -> None:
    """Raises TOKEN_INVALID; LedgerUnavailable where nobody can say."""
    centre = request.state["centre"]
    if not await may_read(request):
        raise Problem(Code.TOKEN_INVALID, SIGN_IN)
    if not centre.migrated:
        raise Problem(Code.BACKEND_UNAVAILABLE, "the console starts when the ledger is migrated")


async def may_read(request: Request[Any]) -> bool:
    """By whatever the request carries. Raises LedgerUnavailable."""
    centre = request.state["centre"]
    if values := request.headers.getlist("authorization"):
        return await centre.staff.by_header(values) is not None
    if view := request.query_params.get("view", ""):
        return bool(await centre.view_links.is_good(view, centre.clock.now_ms()))
    return await centre.staff.by_cookie(request) is not None
