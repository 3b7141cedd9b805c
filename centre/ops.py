"""/ops/session: who is signed in to the console's page.

A sign-in link carries its secret in the fragment, which a browser sends to nobody; the page takes
it out of the address bar and trades it for a session, once. The session is a cookie that scripts
cannot read and other sites cannot send; writes need, besides, a token that only our page is told.
"""

from typing import Any

import structlog
from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from centre.access import may
from centre.caller import check_csrf
from centre.problems import Code, Problem, answer
from centre.requests import body_of
from centre.staff_routes import NEEDS_TLS
from flashgrab.clock import to_rfc3339
from flashgrab.ledger import staff
from flashgrab.ledger.staff import Holder
from flashgrab.staff import Credential, read

SIGNED_OUT = "not signed in; `flashgrab token sign-in` prints a link"

ACTIONS = ("pause", "resume", "restock", "close")
"""What the page has buttons for."""

log = structlog.get_logger()


class SignIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What stood in the fragment of a sign-in link."""

    link: str


async def session(request: Request[Any]) -> Response:
    """/ops/session: GET says who is signed in, POST signs in by a link, DELETE signs out."""
    if request.method == "POST":
        return await _sign_in(request)
    known = await request.state["centre"].staff.by_cookie(request)
    if known is None:
        raise Problem(Code.TOKEN_INVALID, SIGNED_OUT)
    holder, shown = known
    if request.method == "DELETE":
        check_csrf(request, shown)
        return await _sign_out(request, holder)
    return answer(_shown(holder, shown))


async def _sign_in(request: Request[Any]) -> Response:
    centre = request.state["centre"]
    if not centre.staff.sign_in:
        raise Problem(Code.SIGN_IN_NEEDS_TLS, NEEDS_TLS)
    # A form of another site cannot say this type, and a script of one not without asking first:
    # else it could sign somebody in as whom it likes.
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise Problem(Code.MEDIA_TYPE_UNKNOWN, "Content-Type: expected application/json")
    link = read("link", (await body_of(request, SignIn)).link)
    made = None
    if link and await centre.staff.known(link):
        made = await staff.sign_in(centre.pool, link, centre.clock.now_ms())
    if made is None:
        raise Problem(Code.TOKEN_INVALID, f"the link was used before, or is over; {SIGNED_OUT}")
    credential, holder = made
    log.info("signed_in", name=holder.name, role=holder.role.value, session=holder.id)
    response = answer(_shown(holder, credential), 201)
    _set_cookie(request, response, credential.shown(), holder.expires_ms)
    return response


async def _sign_out(request: Request[Any], holder: Holder) -> Response:
    centre = request.state["centre"]
    await staff.end(centre.pool, holder.id, centre.clock.now_ms())
    response = answer({"name": None, "role": None})
    _set_cookie(request, response, "", 0)
    return response


def _set_cookie(request: Request[Any], response: Response, value: str, expires_ms: int) -> None:
    centre = request.state["centre"]
    age_ms = max(0, expires_ms - centre.clock.now_ms())
    response.set_cookie(
        centre.staff.cookie,
        value,
        max_age=age_ms // 1000,
        path="/",
        secure=centre.staff.secure,
        httponly=True,
        samesite="strict",
    )


def _shown(holder: Holder, shown: Credential) -> dict[str, Any]:
    return {
        "name": holder.name,
        "role": holder.role.value,
        "expires_at": to_rfc3339(holder.expires_ms),
        "csrf": shown.csrf(),
        "may": sorted(action for action in ACTIONS if may(holder.role, action)),
    }
