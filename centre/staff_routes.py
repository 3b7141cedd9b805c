"""The centre's calls for staff itself: tokens, sign-in links, the log."""

import re
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from centre.caller import CALLER
from centre.journal import changed
from centre.problems import Code, Problem, answer
from centre.requests import Empty, body_of, operation_of
from flashgrab.clock import to_rfc3339
from flashgrab.ledger import staff, staff_log
from flashgrab.ledger.staff import Kept
from flashgrab.ledger.staff_log import PAGE_MAX, Entry
from flashgrab.staff import ROOT, Role, is_credential_id

NAME = r"[A-Za-z0-9._@-]{1,64}"
VALID_S_MIN, VALID_S_MAX = 60, 366 * 86_400
LOG_SHOWN = 100


class NewToken(Struct, frozen=True, forbid_unknown_fields=True):
    """Whose token, with which role, for how many seconds."""

    name: Annotated[str, Meta(pattern=f"^{NAME}$")]
    role: Role
    valid_s: Annotated[int, Meta(ge=VALID_S_MIN, le=VALID_S_MAX)]


async def tokens(request: Request[Any]) -> Response:
    """/v1/tokens, both methods: one route, so that a third one is told of both."""
    return await (_create if request.method == "POST" else _list)(request)


async def _create(request: Request[Any]) -> Response:
    """POST /v1/tokens: the answer shows the token, and nothing ever does again."""
    operation = operation_of(request)
    body = await body_of(request, NewToken)
    if body.name == ROOT:
        raise Problem(Code.INVALID_REQUEST, "body: name: root is who holds ADMIN_TOKEN")
    centre, now_ms = request.state["centre"], request.state["centre"].clock.now_ms()
    made = await staff.create_token(
        centre.pool,
        operation,
        body.name,
        body.role,
        body.valid_s * 1000,
        request.scope[CALLER],
        now_ms,
    )
    shown = {
        "id": made.id,
        "name": body.name,
        "role": body.role.value,
        "expires_at": to_rfc3339(now_ms + body.valid_s * 1000),
    }
    changed(request, made.id, shown)
    return answer(shown | {"token": made.shown()}, 201)


async def _list(request: Request[Any]) -> Response:
    """GET /v1/tokens: tokens, links and sessions, without what proves them."""
    centre = request.state["centre"]
    return answer({"tokens": [_kept(one) for one in await staff.listed(centre.pool)]})


async def revoke(request: Request[Any]) -> Response:
    """POST /v1/tokens/{id}/revoke: from the next request on, for its sessions too."""
    operation_of(request)
    await body_of(request, Empty)
    centre, id_ = request.state["centre"], str(request.path_params["id"])
    ended = None
    if is_credential_id(id_):
        ended = await staff.end(centre.pool, id_, centre.clock.now_ms())
    if ended is None:
        raise Problem(Code.TOKEN_NOT_FOUND, "there is no such token; GET /v1/tokens lists them")
    shown = _kept(ended)
    changed(request, id_, {k: shown[k] for k in ("kind", "name", "role", "ended_at")})
    return answer(shown)


async def sign_in(request: Request[Any]) -> Response:
    """POST /v1/sign-ins: a link that signs the caller in to the pages, once."""
    operation_of(request)
    await body_of(request, Empty)
    centre, who = request.state["centre"], request.scope[CALLER]
    if who.kind != "token":
        raise Problem(Code.ROLE_FORBIDDEN, "a session makes no other; show a token")
    if not centre.staff.sign_in:
        raise Problem(Code.SIGN_IN_NEEDS_TLS, NEEDS_TLS)
    link, expires_ms = await staff.create_link(centre.pool, who, centre.clock.now_ms())
    changed(request, link.id, None)
    # in the fragment, which no server and no log ever gets
    path = f"/ops#{link.shown()}"
    return answer({"path": path, "url": centre.staff.origin + path if centre.staff.origin else None,
                   "expires_at": to_rfc3339(expires_ms)}, 201)  # fmt: skip


NEEDS_TLS = (
    "the centre listens where others reach it: sign in over TLS, with FLASHGRAB_CENTRE_URL set"
    " to https://... or to the loopback address that is passed on to it, or on a loopback"
    " FLASHGRAB_HOST"
)


async def log(request: Request[Any]) -> Response:
    """GET /v1/log?limit=&name=: who did what, the newest first."""
    given = request.query_params
    limit, name = given.get("limit", str(LOG_SHOWN)), given.get("name", "")
    if not set(given) <= {"limit", "name"}:
        raise Problem(Code.INVALID_REQUEST, "query: expected limit or name, each once")
    if not (re.fullmatch(r"[0-9]{1,4}", limit, re.ASCII) and 0 < int(limit) <= PAGE_MAX):
        raise Problem(Code.INVALID_REQUEST, f"query: limit: expected 1 to {PAGE_MAX}")
    if name and not re.fullmatch(NAME, name, re.ASCII):
        raise Problem(Code.INVALID_REQUEST, "query: name: expected the name of a token")
    found = await staff_log.page(request.state["centre"].pool, int(limit), name)
    return answer({"entries": [_entry(one) for one in found]})


def _kept(one: Kept) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "name": one.name,
        "role": one.role.value,
        "made_by": one.made_by,
        "created_at": to_rfc3339(one.created_ms),
        "expires_at": to_rfc3339(one.expires_ms),
        "ended_at": None if one.ended_ms is None else to_rfc3339(one.ended_ms),
    }


def _entry(one: Entry) -> dict[str, Any]:
    names = ("entry", "name", "role", "credential", "action", "target", "operation")
    outcome = ("before", "after", "status", "code")
    return {name: getattr(one, name) for name in (*names, *outcome)} | {
        "at": to_rfc3339(one.at_ms),
        "ended_at": None if one.ended_ms is None else to_rfc3339(one.ended_ms),
    }
