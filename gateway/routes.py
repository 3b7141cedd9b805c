"""The gateway's HTTP (contract §2) as ordinary Starlette routes: the readable form."""

import secrets
import time
from typing import Any, NamedTuple

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from flashgrab.blocks import Blocklist
from flashgrab.clock import to_rfc3339
from flashgrab.failures import HEADER, failures, request_id
from flashgrab.ids import (
    OWN_REQUEST_PREFIX,
    is_campaign_id,
    is_idempotency_key,
    is_user_id,
)
from flashgrab.limits import Policies, networks
from flashgrab.outcomes import Outcome
from flashgrab.passes import Pass
from gateway.address import host_of
from gateway.campaigns import Campaign
from gateway.documents import ROUTES as DOCUMENTS
from gateway.gateway import Gateway, State
from gateway.issuing import issue_pass
from gateway.openapi import document
from gateway.page_files import challenge_worker
from gateway.page_form import PAGE_ROUTES
from gateway.public import list_campaigns, show_campaign
from gateway.ratelimit import REFUSED, noted, refusal
from gateway.replies import grab_reply, json_reply, problem
from gateway.requests import BODY_BYTES_MAX, CLOCKS_DIFFER, bad_body, bearer, read_body
from gateway.showing import list_grabs, receipt_keys, show_grab


class Grab:
    """POST /v1/campaigns/{campaign_id}/grabs: one attempt to take a coupon.

    An ASGI endpoint: for a function Starlette makes a Request, two closures and a second
    exception wrapper each time, a twelfth of the CPU of a grab.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gateway: Gateway = scope["state"]["gateway"]
        response = await _grab(gateway, scope, receive, scope["path_params"]["campaign_id"])
        await response(scope, receive, send)


class _Head(NamedTuple):
    """What a grab needs of its request head."""

    authorization: bytes
    key: str | None
    key_valid: bool
    has_body: bool


def _read_head(scope: Scope) -> _Head:
    """One pass over the raw headers: Starlette's mapping costs more than the whole pass check."""
    authorization, keys, has_body = b"", [], False
    for name, value in scope["headers"]:
        if name == b"authorization":
            authorization = value
        elif name == b"idempotency-key":
            keys.append(value.decode("latin-1"))
        elif name == b"content-length":
            has_body = value.strip(b"0") != b""
        elif name == b"transfer-encoding":
            has_body = True
    key = keys[0] if keys else None
    valid = key is None or (len(keys) == 1 and is_idempotency_key(key) is not None)
    return _Head(authorization, key, valid, has_body)


async def _grab(gateway: Gateway, scope: Scope, receive: Receive, campaign_id: str) -> Response:
    campaign = gateway.catalogue.get(campaign_id)

    def refuse(outcome: Outcome, **fields: Any) -> Response:
        gateway.count_local(campaign, outcome)
        return problem(outcome, **fields)

    head = _read_head(scope)
    if head.has_body and (bad := await bad_body(Request(scope, receive))):
        return refuse(bad, detail="A grab has an empty body.")
    if not is_campaign_id(campaign_id):
        return refuse(Outcome.INVALID_REQUEST, detail="Not a campaign id.")
    if not head.key_valid:
        return refuse(Outcome.IDEMPOTENCY_KEY_INVALID)
    if not gateway.redis_clock.trusted:  # before the pass: with a wrong clock 401 may be a lie
        return refuse(Outcome.BACKEND_UNAVAILABLE, detail=CLOCKS_DIFFER)
    who = _checked_pass(gateway, head.authorization)
    if who is None:
        return refuse(Outcome.PASS_INVALID)
    if who.campaign_id != campaign_id:
        return refuse(Outcome.PASS_OTHER_CAMPAIGN)
    if gateway.blocked is not None and _is_blocked(gateway, gateway.blocked, who):
        return refuse(Outcome.BLOCKED)
    if campaign is None:
        return refuse(Outcome.CAMPAIGN_NOT_FOUND)
    if campaign.limits is not None:
        return await _limited_grab(gateway, campaign, campaign.limits, who, head.key, scope)
    return await _counted_grab(gateway, campaign, who, head.key)


def _is_blocked(gateway: Gateway, blocked: Blocklist, who: Pass) -> bool:
    now_ms = gateway.redis_clock.now_ms()
    return blocked.stops(who.user_id.encode(), who.device_id.encode(), now_ms)


async def _limited_grab(
    gateway: Gateway,
    campaign: Campaign,
    limits: Policies,
    who: Pass,
    key: str | None,
    scope: Scope,
) -> Response:
    """A grab in a campaign with rate limits: they come before all that the campaign says."""
    since = time.monotonic()
    verdict = await gateway.limiter.check(
        limits, who.user_id.encode(), who.device_id.encode(), networks(host_of(scope["client"]))
    )
    if verdict.left == REFUSED:
        gateway.count_limited(campaign, verdict)
        return refusal(verdict)
    return noted(await _counted_grab(gateway, campaign, who, key, since), verdict)


async def _counted_grab(
    gateway: Gateway, campaign: Campaign, who: Pass, key: str | None, since: float | None = None
) -> Response:
    """What the campaign says."""
    if campaign.missing:
        gateway.count_local(campaign, Outcome.NOT_WARMED)
        return problem(Outcome.NOT_WARMED)
    key = key or OWN_REQUEST_PREFIX + secrets.token_hex(8)
    user, device, now_ms = who.user_id, who.device_id, gateway.redis_clock.now_ms()
    decision = gateway.memory.decide(
        campaign, gateway.wire.run_id, user.encode(), device.encode(), key.encode(), now_ms
    )
    if decision is not None:
        gateway.count_local(campaign, decision.outcome)
    else:
        decision = await gateway.batcher(campaign).submit(user, device, key, since)
    return grab_reply(campaign, decision, gateway.redis_clock.now_ms())


def _checked_pass(gateway: Gateway, authorization: bytes) -> Pass | None:
    token = bearer(authorization)
    return gateway.pass_keys.check(token, gateway.clock.now_ms()) if token else None


async def demo_identity(request: Request[State]) -> Response:
    """POST /demo/identity {"user_id"}: the token that a shop's login would give (--demo only)."""
    gateway = request.state["gateway"]
    if not gateway.demo:
        return problem(Outcome.NOT_FOUND)
    body = await read_body(request)
    if isinstance(body, Outcome):
        return problem(body, detail=f"At most {BODY_BYTES_MAX} bytes of JSON.")
    try:
        user_id = orjson.loads(body)["user_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return problem(Outcome.INVALID_REQUEST, detail='Expected {"user_id": "…"}.')
    if not isinstance(user_id, str) or not is_user_id(user_id):
        detail = "user_id is 1 to 64 characters of A-Z a-z 0-9 . _ ~ @ -"
        return problem(Outcome.INVALID_REQUEST, detail=detail)
    token, expires_ms = gateway.identity.mint(user_id)
    return json_reply(
        {"token": token, "user_id": user_id, "expires_at": to_rfc3339(expires_ms)}, 201
    )


async def livez(_request: Request[State]) -> Response:
    """GET /livez: the loop runs."""
    return json_reply({"status": "ok"})


async def readyz(request: Request[State]) -> Response:
    """GET /readyz: 200 where grabs can be decided, else 503 naming what is missing."""
    gateway = request.state["gateway"]
    missing = []
    if not gateway.wire.connected.is_set():
        missing.append("redis")
    if not gateway.catalogue.loaded:
        missing.append("campaigns")
    if not gateway.redis_clock.trusted:
        missing.append("clock")
    if missing:
        return problem(
            Outcome.BACKEND_UNAVAILABLE, missing=missing, detail="Not ready: " + ", ".join(missing)
        )
    return json_reply({"status": "ok"})


async def openapi(_request: Request[State]) -> Response:
    """GET /openapi.json."""
    return json_reply(document())


async def http_error(_request: Request, error: Exception) -> Response:
    """Unknown routes and methods as problems too."""
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(Outcome.NOT_FOUND)
    if error.status_code == 405:
        response = problem(Outcome.METHOD_NOT_ALLOWED)
        response.headers.update(error.headers or {})
        return response
    return problem(Outcome.INVALID_REQUEST)


async def failed(request: Request, error: Exception) -> Response:
    """Redis is away or refuses, or a fault of ours: 503, to be asked again; no detail to the
    client but the id that the log has."""
    name = request_id(request.headers.get(HEADER, ""))
    response = problem(Outcome.BACKEND_UNAVAILABLE, request_id=name)
    failures.say(error, name, request.method, request.url.path, response.status_code)
    response.headers[HEADER] = name
    return response


ROUTES = [
    Route("/v1/campaigns/{campaign_id}/grabs", Grab(), methods=["POST"]),
    Route("/v1/campaigns/{campaign_id}/passes", issue_pass, methods=["POST"]),
    Route("/v1/grabs", list_grabs, methods=["GET"]),
    Route("/v1/grabs/{grab_id}", show_grab, methods=["GET"]),
    Route("/v1/receipt-keys", receipt_keys, methods=["GET"]),
    Route("/v1/campaigns", list_campaigns, methods=["GET"]),
    Route("/v1/campaigns/{campaign_id}", show_campaign, methods=["GET"]),
    Route("/livez", livez, methods=["GET"]),
    Route("/readyz", readyz, methods=["GET"]),
    Route("/static/challenge-worker.js", challenge_worker, methods=["GET"]),
    Route("/openapi.json", openapi, methods=["GET"]),
    Route("/demo/identity", demo_identity, methods=["POST"]),
    *PAGE_ROUTES,
    *DOCUMENTS,
]
