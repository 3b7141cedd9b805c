"""The console's routes; each but the page and its files looks at who reads it by itself."""

from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from centre.caller import CALLER
from centre.console import files, history, stream
from centre.console.view_link import VALID_S_MAX
from centre.journal import changed
from centre.problems import answer
from centre.requests import body_of, operation_of
from flashgrab.clock import to_rfc3339


class NewViewLink(Struct, frozen=True, forbid_unknown_fields=True):
    """For how many seconds it is good."""

    valid_s: Annotated[int, Meta(ge=60, le=VALID_S_MAX)] = 12 * 3600


async def view_link(request: Request[Any]) -> Response:
    """POST /v1/view-links: a read-only link to the console, for colleagues."""
    operation_of(request)
    body = await body_of(request, NewViewLink)
    centre, who = request.state["centre"], request.scope[CALLER]
    link, expires_ms = await centre.view_links.make(who, body.valid_s, centre.clock.now_ms())
    expires_at = to_rfc3339(expires_ms)
    changed(request, "view link", {"expires_at": expires_at})
    path = f"/ops?view={link}"
    url = centre.staff.origin + path if centre.staff.origin else None
    return answer({"path": path, "url": url, "expires_at": expires_at}, 201)


def routes() -> list[BaseRoute]:
    """Those below /ops, the session's own left out."""
    return [
        Route("/ops", files.page, methods=["GET"]),
        Route("/ops/static/{name}", files.static, methods=["GET"]),
        Route("/ops/runbook", files.runbook, methods=["GET"]),
        Route("/ops/campaigns", history.campaigns, methods=["GET"]),
        Route("/ops/history", history.history, methods=["GET"]),
        Route("/ops/stream", stream.stream, methods=["GET"]),
    ]
