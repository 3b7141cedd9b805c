"""The OpenAPI 3.1 document of the gateway; tests hold it against the routes and the outcomes."""

from functools import cache
from typing import Any

from flashgrab import __version__
from flashgrab.ids import CAMPAIGN_ID, IDEMPOTENCY_KEY, PERSON_ID
from flashgrab.outcomes import Outcome
from gateway.openapi_page import PAGE_PATHS

GRAB_REFUSALS = tuple(
    o
    for o in Outcome
    if o.value.status >= 400
    and o.name
    not in (
        *("IDENTITY_INVALID", "NOT_IN_AUDIENCE", "GRAB_NOT_FOUND", "NOT_FOUND"),
        *("METHOD_NOT_ALLOWED", "CHALLENGE_REQUIRED"),
    )
)
PASS_REFUSALS = (
    Outcome.INVALID_REQUEST,
    Outcome.IDENTITY_INVALID,
    Outcome.BLOCKED,
    Outcome.CHALLENGE_REQUIRED,
    Outcome.NOT_IN_AUDIENCE,
    Outcome.CAMPAIGN_NOT_FOUND,
    Outcome.REQUEST_TOO_LARGE,
    Outcome.RATE_LIMITED,
    Outcome.ENDED,
    Outcome.BACKEND_UNAVAILABLE,
)
SHOW_REFUSALS = (
    Outcome.INVALID_REQUEST,
    Outcome.PASS_INVALID,
    Outcome.GRAB_NOT_FOUND,
    Outcome.NOT_WARMED,
    Outcome.BACKEND_UNAVAILABLE,
)
LIST_REFUSALS = (
    Outcome.INVALID_REQUEST,
    Outcome.IDENTITY_INVALID,
    Outcome.CAMPAIGN_NOT_FOUND,
    Outcome.NOT_WARMED,
    Outcome.BACKEND_UNAVAILABLE,
)

_TIME = {"type": "string", "format": "date-time"}
_WHOLE = {"type": "integer"}
_JWK = {name: {"type": "string"} for name in ("kty", "crv", "use", "alg", "kid", "x")}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str, media: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media: {"schema": _ref(schema)}}}


def _problems(outcomes: tuple[Outcome, ...]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for outcome in outcomes:
        by_status.setdefault(outcome.value.status, []).append(outcome.name)
    return {
        str(status): _answer(", ".join(names), "Problem", "application/problem+json")
        for status, names in sorted(by_status.items())
    }


def _path(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _text(pattern: str) -> dict[str, str]:
    return {"type": "string", "pattern": f"^{pattern}$"} if pattern else {"type": "string"}


def _header(name: str, pattern: str = "") -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "schema": _text(pattern)}


def _query(name: str, pattern: str = "", *, required: bool = False) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": required, "schema": _text(pattern)}


_CAMPAIGN = _path("campaign_id", CAMPAIGN_ID)


@cache
def document() -> dict[str, Any]:
    """The document as plain data."""
    grab = {
        "summary": "One attempt to take a coupon",
        "security": [{"pass": []}],
        "parameters": [_CAMPAIGN, _header("Idempotency-Key", IDEMPOTENCY_KEY)],
        "responses": {
            "201": _answer("GRANTED", "Grab"),
            "200": _answer("REPLAYED: the same grab for the same user and key", "Grab"),
            **_problems(GRAB_REFUSALS),
        },
    }
    issue = {
        "summary": "An identity token for a pass",
        "security": [{"identity": []}],
        "parameters": [
            _CAMPAIGN,
            _header("X-Device-Id", PERSON_ID),
            # What a campaign does not ask for is not looked at, so these may be anything.
            _header("X-Challenge-Answer"),
            _header("X-Page-Stamp"),
            _header("X-Claim"),
            _query("claim"),
        ],
        "responses": {"201": _answer("Issued", "Pass"), **_problems(PASS_REFUSALS)},
    }
    show = {
        "summary": "What became of a grab, for its owner; for the shop with ?user=, its owner",
        "security": [{"pass": []}, {"identity": []}, {"shop": []}],
        "parameters": [
            _path("grab_id", CAMPAIGN_ID + "-[1-9][0-9]*"),
            _query("user"),  # the shop's; an owner's own is not looked at
        ],
        "responses": {
            "200": _answer("The grab", "GrabState"),
            **_problems(SHOW_REFUSALS),
        },
    }
    held = {
        "summary": "All grants of a user, for the shop's own backend",
        "security": [{"shop": []}],
        "parameters": [_query("user", PERSON_ID, required=True), _query("campaign", CAMPAIGN_ID)],
        "responses": {"200": _answer("The grants", "UserGrabs"), **_problems(LIST_REFUSALS)},
    }
    receipt_keys = {
        "summary": "The public keys of receipts (JWKS)",
        "responses": {"200": _answer("The keys; none where none are signed", "ReceiptKeys")},
    }
    one = {
        "summary": "Public state of a campaign",
        "parameters": [_CAMPAIGN],
        "responses": {
            "200": _answer("State", "Campaign"),
            "304": {"description": "Not changed"},
            **_problems((Outcome.CAMPAIGN_NOT_FOUND, Outcome.NOT_WARMED)),
        },
    }
    every = {
        "summary": "Public state of all campaigns",
        "responses": {
            "200": _answer("States", "Campaigns"),
            "304": {"description": "Not changed"},
        },
    }
    demo = {
        "summary": "An identity token for the demo (with --demo only)",
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref("DemoUser")}},
        },
        "responses": {
            "201": _answer("Minted", "DemoIdentity"),
            **_problems((Outcome.INVALID_REQUEST, Outcome.NOT_FOUND, Outcome.REQUEST_TOO_LARGE)),
        },
    }
    health = {"responses": {"200": {"description": "Yes"}}}
    ready = {"responses": {**health["responses"], **_problems((Outcome.BACKEND_UNAVAILABLE,))}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flashgrab gateway", "version": __version__},
        "paths": {
            "/v1/campaigns/{campaign_id}/grabs": {"post": grab},
            "/v1/campaigns/{campaign_id}/passes": {"post": issue},
            "/v1/grabs": {"get": held},
            "/v1/grabs/{grab_id}": {"get": show},
            "/v1/receipt-keys": {"get": receipt_keys},
            "/v1/campaigns": {"get": every},
            "/v1/campaigns/{campaign_id}": {"get": one},
            "/livez": {"get": {"summary": "Is the process alive", **health}},
            "/readyz": {"get": {"summary": "Can grabs be decided", **ready}},
            "/static/challenge-worker.js": {"get": {"summary": "Solves challenges", **health}},
            "/openapi.json": {"get": {"summary": "This document", **health}},
            "/demo/identity": {"post": demo},
            **PAGE_PATHS,
        },
        "components": {
            "securitySchemes": {
                "pass": {"type": "http", "scheme": "bearer", "description": "a pass"},
                "identity": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "shop": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "of FLASHGRAB_SHOP_TOKENS",
                },
            },
            "schemas": _schemas(),
        },
    }


def _schemas() -> dict[str, Any]:
    text = {"type": "string"}
    campaign_status = ["NOT_STARTED", "CLAIMABLE", "SOLD_OUT", "ENDED", "PAUSED", "OFFLINE"]
    round_ = {
        "round": _WHOLE,
        "opens_at": _TIME,
        "closes_at": _TIME,
        "quota": _WHOLE,
        "left": {**_WHOLE, "description": "may be up to 1 s old"},
    }
    campaign = {
        "campaign_id": text,
        "name": text,
        "status": {"enum": campaign_status},
        "per_user": _WHOLE,
        "per_device": _WHOLE,
        "rule": {"type": "object"},
        "rounds": {"type": "array", "items": _object(round_, {"sold_out_at": _TIME})},
    }
    receipt = {"type": "string", "description": "compact JWS, EdDSA; where receipts are signed"}
    not_warmed = {
        "type": "array",
        "items": text,
        "description": "campaigns of which nothing is known now: the user may hold something there",
    }
    grab_state = {"enum": ["GRANTED", "PERSISTED", "RETURNED"]}
    grab = {"grab_id": text, "serial": _WHOLE, "round": _WHOLE, "state": grab_state}
    problem = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": text,
        "status": _WHOLE,
        "code": {"enum": [o.name for o in Outcome if o.value.status >= 400]},
        "detail": text,
    }
    problem_fields = {
        "request_id": text,
        "retry_after_ms": _WHOLE,
        "opens_at": _TIME,
        "next_opens_at": _TIME,
        "grab_ids": {"type": "array", "items": text},
        "missing": {"type": "array", "items": text},
        "scope": {"enum": ["user", "device", "address", "campaign", "passes"]},
        "challenge": _object(
            {"kind": {"enum": ["work", "captcha"]}},
            {
                "token": text,
                "bits": _WHOLE,
                "parts": _WHOLE,
                "expires_at": _TIME,
                "site_key": text,
            },
        ),
    }
    return {
        "Grab": _object({**grab, "campaign_id": text}, {"replayed": {"const": True}}),
        "GrabState": _object(grab, {"receipt": receipt}),
        "UserGrabs": _object(
            {
                "user_id": text,
                "grabs": {"type": "array", "items": _object({**grab, "campaign_id": text})},
                "not_warmed": not_warmed,
            }
        ),
        "ReceiptKeys": _object({"keys": {"type": "array", "items": _object(_JWK)}}),
        "Pass": _object(
            {"pass": text, "campaign_id": text, "not_before": _TIME, "expires_at": _TIME}
        ),
        "Campaign": _object(campaign, {"server_time": _TIME, "page_stamp": text}),
        "Campaigns": _object(
            {"campaigns": {"type": "array", "items": _object(campaign)}, "server_time": _TIME}
        ),
        "DemoUser": _object({"user_id": {"type": "string", "pattern": f"^{PERSON_ID}$"}}),
        "DemoIdentity": _object({"token": text, "user_id": text, "expires_at": _TIME}),
        "Problem": _object(problem, problem_fields),
    }
