"""The centre's HTTP: management of campaigns, health, its own description."""

from dataclasses import dataclass
from typing import Any, TypedDict

import orjson
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route, Router

from centre import views
from centre.admin import AdminOnly
from centre.apply import Applier
from centre.health import missing, rebuild_needed
from centre.openapi import document
from centre.problems import Code, Problem, problem
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
from flashgrab.errors import (
    DefinitionInvalid,
    LedgerUnavailable,
    OperationRefused,
    StoreRefused,
    StoreUnavailable,
)
from flashgrab.ledger import campaigns, rebuilds, returns
from flashgrab.ledger.operations import CampaignExists, Change, Operations, Result
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.rebuilds import Rebuild as Rebuilt
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
    return _json(body, 200 if result.there else 201, headers)


async def _list(request: Request[State]) -> Response:
    """GET /v1/campaigns?after=&limit=: by id; `next` is the `after` of the next page."""
    after, limit = page_of(request)
    found = await campaigns.page(_centre(request).pool, after, limit)
    following = found[-1].campaign_id if len(found) == limit else None
    return _json({"campaigns": [views.brief(c) for c in found], "next": following})


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
    return _json(shown | {"rebuild_needed": bool(needed), "rebuild": views.rebuild(rebuilt)})


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
    return _json(body)


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
    return _json(body)


async def livez(_request: Request[State]) -> Response:
    """GET /livez: looks at nothing outside the process."""
    return _json({"status": "alive"})


async def readyz(request: Request[State]) -> Response:
    """GET /readyz: 503 naming what is missing."""
    centre = request.state["centre"]
    absent = await missing(centre.pool, centre.store)
    if not absent and not centre.migrated:
        absent = ["schema"]
    if absent:
        detail = f"missing: {', '.join(absent)}"
        return problem(Code.BACKEND_UNAVAILABLE, detail, missing=absent)
    return _json({"status": "ready", "rebuild_needed": len(centre.applier.lost)})


async def openapi(_request: Request[State]) -> Response:
    """GET /openapi.json."""
    return _json(document())


def routes(admin_token: str) -> list[BaseRoute]:
    """All of them; everything under /v1 is for the administrator."""
    one = "/campaigns/{campaign_id}"
    management = [
        Route("/campaigns", collection, methods=["GET", "POST"]),
        Route(one, show, methods=["GET"]),
        Route(f"{one}/publish", publish, methods=["POST"]),
        Route(f"{one}/pause", pause, methods=["POST"]),
        Route(f"{one}/resume", resume, methods=["POST"]),
        Route(f"{one}/restock", restock, methods=["POST"]),
        Route(f"{one}/close", close, methods=["POST"]),
        Route(f"{one}/rebuild", rebuild, methods=["POST"]),
        Route("/grabs/{grab_id}/return", return_, methods=["POST"]),
    ]
    admin_only = [Middleware(AdminOnly, token=admin_token)]
    return [
        Mount("/v1", Router(management, redirect_slashes=False), middleware=admin_only),
        Route("/livez", livez, methods=["GET"]),
        Route("/readyz", readyz, methods=["GET"]),
        Route("/openapi.json", openapi, methods=["GET"]),
    ]


def refused(_request: Request[Any], error: Exception) -> Response:
    """What a route raised, as a problem. One place for all of them."""
    match error:
        case Problem():
            return problem(error.code, error.detail, **error.fields)
        case CampaignExists():
            fields = [
                {"field": d.field, "there": d.there, "given": d.given} for d in error.differences
            ]
            return problem(Code.CAMPAIGN_EXISTS, str(error), differences=fields)
        case OperationRefused():
            return problem(Code[error.code], str(error))
        case DefinitionInvalid():
            return problem(Code.DEFINITION_INVALID, str(error))
        case LedgerUnavailable() | StoreUnavailable():
            detail = f"{type(error).__name__.removesuffix('Unavailable').lower()} does not answer"
            return problem(Code.BACKEND_UNAVAILABLE, f"the {detail}; repeat with the same key")
        case HTTPException(status_code=404):
            return problem(Code.NOT_FOUND, "there is no such address; look at /openapi.json")
        case HTTPException(status_code=405):
            response = problem(Code.METHOD_NOT_ALLOWED, "the Allow header names the methods")
            response.headers.update(error.headers or {})
            return response
    return problem(Code.INTERNAL_ERROR, "a fault of ours; the log of the centre says more")


def _json(body: object, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    shown = {"Cache-Control": "no-store"} | (headers or {})
    return Response(orjson.dumps(body), status, shown, "application/json")
