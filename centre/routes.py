"""The centre's HTTP: management of campaigns, health, its own description."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypedDict

from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from centre import ops, staff_routes, views
from centre.access import guarded
from centre.apply import Applier
from centre.caller import Staff, StaffOnly
from centre.console import routes as console_routes
from centre.console.console import Console
from centre.console.view_link import ViewLinks
from centre.documents import ROUTES as DOCUMENTS
from centre.health import missing, rebuild_needed
from centre.list_routes import LISTS
from centre.lists import Lists
from centre.openapi import document
from centre.problems import Code, Problem, answer, problem
from centre.rebuild import Rebuilder
from centre.requests import (
    Empty,
    Rebuild,
    Restock,
    body_of,
    campaign_id_of,
    definition_of,
    grab_of,
    operation_of,
    page_of,
)
from flashgrab.clock import Clock
from flashgrab.errors import LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger import campaigns, rebuilds, returns
from flashgrab.ledger.operations import Change, Operations, Result
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.rebuilds import Rebuild as Rebuilt
from flashgrab.segments import SegmentKey
from flashgrab.store import Store

APPLY_MS_MAX = 2000
"""How long the answer to a change waits for Redis; the change itself is safe before."""
WAITING = "Redis does not answer, or is slow; the centre goes on trying"


@dataclass
class Centre:
    """Everything that the routes work with; one a process."""

    pool: Pool
    store: Store
    clock: Clock
    operations: Operations
    applier: Applier
    rebuilder: Rebuilder
    staff: Staff
    lists: Lists
    segment_key: SegmentKey | None
    console: Console
    view_links: ViewLinks
    is_stopping: Callable[[], bool]
    migrated: bool = False


class State(TypedDict):
    """Typed lifespan state."""

    centre: Centre


def _centre(request: Request[State]) -> Centre:
    """Raises LedgerUnavailable until the ledger's schema is ours."""
    centre = request.state["centre"]
    if not centre.migrated:
        raise LedgerUnavailable("the ledger is not migrated yet")
    return centre


async def collection(request: Request[State]) -> Response:
    """/v1/campaigns, both methods: one route, so that a third one is told of both."""
    return await (_create if request.method == "POST" else _list)(request)


async def _create(request: Request[State]) -> Response:
    """POST /v1/campaigns: a new DRAFT. 200 where the same content is there already."""
    operation = operation_of(request)
    definition = await definition_of(request)
    result = await _centre(request).operations.create(operation, definition)
    body = result.fields | {"repeated": result.repeated, "there": result.there}
    headers = {"Location": f"/v1/campaigns/{definition.id}"}
    return answer(body, 200 if result.there else 201, headers)


async def _list(request: Request[State]) -> Response:
    """GET /v1/campaigns?after=&limit=: by id; `next` is the `after` of the next page."""
    after, limit = page_of(request)
    found = await campaigns.page(_centre(request).pool, after, limit)
    following = found[-1].campaign_id if len(found) == limit else None
    return answer({"campaigns": [views.brief(c) for c in found], "next": following})


async def show(request: Request[State]) -> Response:
    """GET /v1/campaigns/{campaign_id}: ledger and Redis side by side."""
    centre = _centre(request)
    campaign_id = campaign_id_of(request)
    campaign = await campaigns.get(centre.pool, campaign_id)
    if campaign is None:
        raise Problem(Code.CAMPAIGN_NOT_FOUND, f"there is no campaign {campaign_id}")
    trouble, run, state, needed = centre.applier.troubles.get(campaign_id), "", None, ""
    rebuilt = await rebuilds.last(centre.pool, campaign_id)
    try:
        run = await centre.store.run_id()
        state = await centre.store.read(campaign_id)
        needed = await rebuild_needed(centre.pool, centre.store, campaign, state, run)
    except (StoreUnavailable, StoreRefused) as error:
        trouble = str(error)
    trouble = _rebuilding(centre, rebuilt) or needed or trouble
    shown = views.full(campaign, state, run, trouble)
    return answer(shown | {"rebuild_needed": bool(needed), "rebuild": views.rebuild(rebuilt)})


async def publish(request: Request[State]) -> Response:
    """POST …/publish: fix the times, open it."""
    return await _bare(request, Change("publish"))


async def pause(request: Request[State]) -> Response:
    """POST …/pause: grab no more until resume; repeats are answered."""
    return await _bare(request, Change("pause"))


async def resume(request: Request[State]) -> Response:
    """POST …/resume: go on after a pause."""
    return await _bare(request, Change("resume"))


async def close(request: Request[State]) -> Response:
    """POST …/close: OFFLINE, for good."""
    return await _bare(request, Change("close"))


async def restock(request: Request[State]) -> Response:
    """POST …/restock {"round", "add"}: a larger quota."""
    operation = operation_of(request)
    body = await body_of(request, Restock)
    return await _change(request, operation, Change("restock", body.round, body.add))


async def rebuild(request: Request[State]) -> Response:
    """POST …/rebuild: Redis' side anew from the ledger, in the next epoch; closed meanwhile."""
    operation = operation_of(request)
    body = await body_of(request, Rebuild)
    return await _change(request, operation, Change("rebuild", without_kafka=body.without_kafka))


async def _bare(request: Request[State], change: Change) -> Response:
    operation = operation_of(request)
    await body_of(request, Empty)
    return await _change(request, operation, change)


async def _change(request: Request[State], operation: str, change: Change) -> Response:
    """The ledger first; then wait for Redis a while, and say whether it has it."""
    centre = _centre(request)
    campaign_id = campaign_id_of(request)
    result: Result = await centre.operations.change(operation, campaign_id, change)
    version = result.fields["version"]
    centre.rebuilder.wake()
    applied = await centre.applier.applied(campaign_id, version, APPLY_MS_MAX)
    body = result.fields | {"repeated": result.repeated, "applied": applied}
    rebuilt = await rebuilds.last(centre.pool, campaign_id)
    if not applied:
        trouble = centre.applier.troubles.get(campaign_id, WAITING)
        body["trouble"] = _rebuilding(centre, rebuilt) or trouble
    if change.action == "rebuild":
        body["rebuild"] = views.rebuild(rebuilt)
    return answer(body)


def _rebuilding(centre: Centre, last: Rebuilt | None) -> str:
    """How far a rebuild is that goes on, "" without one."""
    if last is None or last.step == "DONE":
        return ""
    how_far = centre.rebuilder.waits.get(last.campaign_id, "another centre is at it")
    return f"it is being rebuilt: {how_far}; changes arrive with the new epoch"


async def return_(request: Request[State]) -> Response:
    """POST /v1/grabs/{grab_id}/return: an unused coupon back into the stock of its round."""
    operation = operation_of(request)
    await body_of(request, Empty)
    centre = _centre(request)
    campaign_id, serial = grab_of(request)
    now_ms = centre.clock.now_ms()
    result = await returns.ask(centre.pool, now_ms, operation, campaign_id, serial)

    async def is_applied() -> bool:
        return await returns.is_applied(centre.pool, campaign_id, serial)

    applied = await centre.applier.until(is_applied, APPLY_MS_MAX)
    body = result.fields | {"repeated": result.repeated, "applied": applied}
    if not applied:
        body["trouble"] = centre.applier.returner.troubles.get(campaign_id, WAITING)
    return answer(body)


async def livez(_request: Request[State]) -> Response:
    """GET /livez: looks at nothing outside the process."""
    return answer({"status": "alive"})


async def readyz(request: Request[State]) -> Response:
    """GET /readyz: 503 naming what is missing."""
    centre = request.state["centre"]
    absent = await missing(centre.pool, centre.store)
    if not absent and not centre.migrated:
        absent = ["schema"]
    if absent:
        detail = f"missing: {', '.join(absent)}"
        return problem(Code.BACKEND_UNAVAILABLE, detail, missing=absent)
    return answer({"status": "ready", "rebuild_needed": len(centre.applier.lost)})


async def openapi(_request: Request[State]) -> Response:
    """GET /openapi.json."""
    return answer(document())


def routes() -> list[BaseRoute]:
    """All of them; everything under /v1 is for staff, by the roles of centre/access.py."""
    one = "/campaigns/{campaign_id}"
    management = [
        guarded("/campaigns", collection, ["GET", "POST"]),
        guarded(one, show, ["GET"]),
        guarded(f"{one}/publish", publish, ["POST"]),
        guarded(f"{one}/pause", pause, ["POST"]),
        guarded(f"{one}/resume", resume, ["POST"]),
        guarded(f"{one}/restock", restock, ["POST"]),
        guarded(f"{one}/close", close, ["POST"]),
        guarded(f"{one}/rebuild", rebuild, ["POST"]),
        guarded("/grabs/{grab_id}/return", return_, ["POST"]),
        *(guarded(path, endpoint, methods) for path, endpoint, methods in LISTS),
        guarded("/sign-ins", staff_routes.sign_in, ["POST"]),
        guarded("/view-links", console_routes.view_link, ["POST"]),
        guarded("/tokens", staff_routes.tokens, ["GET", "POST"]),
        guarded("/tokens/{id}/revoke", staff_routes.revoke, ["POST"]),
        guarded("/log", staff_routes.log, ["GET"]),
    ]
    staff_only = [Middleware(StaffOnly)]
    return [
        Mount("/v1", Router(management, redirect_slashes=False), middleware=staff_only),
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
        *DOCUMENTS,
        Route("/ops/session", ops.session, methods=["GET", "POST", "DELETE"]),
        *console_routes.routes(),
    ]
