"""The OpenAPI 3.1 document of the centre; a test holds it against the routes and the problems."""

from functools import cache
from typing import Any

import msgspec

from centre import openapi_staff
from centre.console.routes import NewViewLink
from centre.ops import SignIn
from centre.problems import Code
from centre.requests import AddBlock, Empty, Rebuild, RemoveBlock, Restock
from centre.staff_routes import NewToken
from flashgrab import __version__
from flashgrab.blocks import KINDS
from flashgrab.ids import CAMPAIGN_ID, GRAB_ID, IDEMPOTENCY_KEY
from flashgrab.ledger import blocks
from flashgrab.ledger.campaigns import PAGE_MAX
from flashgrab.model import Definition

_TEXT = {"type": "string"}
_WHOLE = {"type": "integer"}
_FLAG = {"type": "boolean"}
_TIME = {"type": "string", "format": "date-time"}
_STATUS = {"enum": ["DRAFT", "PUBLISHED", "PAUSED", "OFFLINE"]}


def _or_null(schema: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [schema, {"type": "null"}]}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "required": list(required), "properties": properties}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _problems(*codes: Code) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(code.value.status, []).append(code.name)
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {
        str(status): {"description": ", ".join(names), "content": content}
        for status, names in sorted(by_status.items())
    }


def _path(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


_CAMPAIGN = _path("campaign_id", CAMPAIGN_ID)
_GRAB = _path("grab_id", GRAB_ID)
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "the operation id: repeated, it is applied once and answers the same",
    "schema": {"type": "string", "pattern": f"^{IDEMPOTENCY_KEY}$"},
}
_ALWAYS = (
    Code.TOKEN_INVALID,
    Code.ROLE_FORBIDDEN,
    Code.BACKEND_UNAVAILABLE,
    Code.INTERNAL_ERROR,
)
_WRITING = (
    Code.INVALID_REQUEST,
    Code.IDEMPOTENCY_KEY_INVALID,
    Code.IDEMPOTENCY_KEY_REUSED,
    Code.CSRF_INVALID,
    Code.REQUEST_TIMEOUT,
    Code.REQUEST_TOO_LARGE,
    Code.MEDIA_TYPE_UNKNOWN,
    *_ALWAYS,
)


def _change(summary: str, *more: Code, body: str = "", optional: bool = False) -> dict[str, Any]:
    schema = _ref(body or "Empty")
    refusals = (*_WRITING, Code.CAMPAIGN_NOT_FOUND, Code.STATUS_CONFLICT, *more)
    return {
        "summary": summary,
        "parameters": [_CAMPAIGN, _KEY],
        "requestBody": {
            "required": bool(body) and not optional,
            "content": {"application/json": {"schema": schema}},
        },
        "responses": {"200": _answer("Done, or done before", _ref("Done")), **_problems(*refusals)},
    }


def _return() -> dict[str, Any]:
    refusals = (Code.GRAB_NOT_FOUND, Code.ALREADY_RETURNED, Code.NOT_RETURNABLE)
    return {
        "summary": "An unused coupon back into the stock of its round, for good",
        "parameters": [_GRAB, _KEY],
        "requestBody": {
            "required": False,
            "content": {"application/json": {"schema": _ref("Empty")}},
        },
        "responses": {
            "200": _answer("Returned, now or before by this operation", _ref("Returned")),
            **_problems(*_WRITING, *refusals),
        },
    }


def _page(limit_max: int) -> list[dict[str, Any]]:
    limit = {"type": "integer", "minimum": 1, "maximum": limit_max, "default": limit_max}
    return [
        {"name": "after", "in": "query", "schema": _TEXT},
        {"name": "limit", "in": "query", "schema": limit},
    ]


def _segment() -> dict[str, Any]:
    refusals = (Code.CAMPAIGN_NOT_FOUND, Code.STATUS_CONFLICT)
    return {
        "get": {
            "summary": "How many users a campaign is for",
            "parameters": [_CAMPAIGN],
            "responses": {
                "200": _answer("The segment", _ref("Segment")),
                **_problems(*refusals, *_ALWAYS),
            },
        },
        "put": {
            "summary": "The users that a campaign is for, one id a line",
            "parameters": [_CAMPAIGN, _KEY],
            "requestBody": {"required": True, "content": {"text/plain": {"schema": _TEXT}}},
            "responses": {
                "200": _answer("Loaded, or there before", _ref("SegmentLoaded")),
                **_problems(*_WRITING, *refusals, Code.SEGMENT_INVALID),
            },
        },
    }


def _block(summary: str, body: str, answer: str, *more: Code) -> dict[str, Any]:
    return {
        "summary": summary,
        "parameters": [_KEY],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _ref(body)}},
        },
        "responses": {"200": _answer("Done", _ref(answer)), **_problems(*_WRITING, *more)},
    }


def _campaigns() -> dict[str, Any]:
    definition = {
        "application/json": {"schema": _ref("Definition")},
        "application/toml": {"schema": _TEXT},
    }
    return {
        "get": {
            "summary": "Campaigns by id",
            "parameters": _page(PAGE_MAX),
            "responses": {
                "200": _answer("A page", _ref("Campaigns")),
                **_problems(Code.INVALID_REQUEST, *_ALWAYS),
            },
        },
        "post": {
            "summary": "A new campaign, a DRAFT",
            "parameters": [_KEY],
            "requestBody": {"required": True, "content": definition},
            "responses": {
                "201": _answer("Created", _ref("Created")),
                "200": _answer("The same content is there already", _ref("Created")),
                **_problems(*_WRITING, Code.CAMPAIGN_EXISTS, Code.DEFINITION_INVALID),
            },
        },
    }


@cache
def document() -> dict[str, Any]:
    """The document as plain data."""
    one = "/v1/campaigns/{campaign_id}"
    show = {
        "summary": "Ledger and Redis side by side",
        "parameters": [_CAMPAIGN],
        "responses": {
            "200": _answer("The campaign", _ref("Campaign")),
            **_problems(Code.CAMPAIGN_NOT_FOUND, *_ALWAYS),
        },
    }
    restock = _change("A larger quota", Code.DEFINITION_INVALID, body="Restock")
    yes = {"200": {"description": "Yes"}}
    ready = {"responses": yes | _problems(Code.BACKEND_UNAVAILABLE), "security": []}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flashgrab centre", "version": __version__},
        "security": [{"staff": []}, {"session": []}],
        "paths": {
            "/v1/campaigns": _campaigns(),
            one: {"get": show},
            f"{one}/publish": {"post": _change("Fix the times, open", Code.DEFINITION_INVALID)},
            f"{one}/pause": {"post": _change("Grant no more until resume")},
            f"{one}/resume": {"post": _change("Go on after a pause")},
            f"{one}/restock": {"post": restock},
            f"{one}/close": {"post": _change("Take it off, for good")},
            f"{one}/rebuild": {
                "post": _change("Redis' side anew, from the ledger", body="Rebuild", optional=True)
            },
            "/v1/grabs/{grab_id}/return": {"post": _return()},
            **openapi_staff.paths(
                _KEY,
                _problems(Code.INVALID_REQUEST, *_ALWAYS),
                _problems(*_WRITING, Code.SIGN_IN_NEEDS_TLS),
                _problems(*_WRITING, Code.TOKEN_NOT_FOUND),
                _problems(
                    *(code for code in _WRITING if not code.name.startswith("IDEMPOTENCY")),
                    Code.SIGN_IN_NEEDS_TLS,
                ),
            ),
            f"{one}/segment": _segment(),
            "/v1/blocks": {
                "get": {
                    "summary": "What is blocked now, by kind and subject",
                    "parameters": _page(blocks.PAGE_MAX),
                    "responses": {
                        "200": _answer("A page", _ref("Blocks")),
                        **_problems(Code.INVALID_REQUEST, *_ALWAYS),
                    },
                },
                "post": _block(
                    "No pass and no grab for somebody", "AddBlock", "Blocked", Code.BLOCKLIST_FULL
                ),
            },
            "/v1/blocks/remove": {
                "post": _block("Let somebody in again", "RemoveBlock", "Unblocked")
            },
            "/livez": {
                "get": {"summary": "Is the process alive", "responses": yes, "security": []}
            },
            "/readyz": {"get": {"summary": "Can campaigns be managed", **ready}},
            "/openapi.json": {
                "get": {"summary": "This document", "responses": yes, "security": []}
            },
        },
        "components": {
            "securitySchemes": {
                "staff": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "flashgrab"},
                "view": {"type": "apiKey", "in": "query", "name": "view"},
            },
            "schemas": _schemas(),
        },
    }


def _schemas() -> dict[str, Any]:
    brief = {
        "campaign_id": _TEXT,
        "name": _TEXT,
        "status": _STATUS,
        "version": _WHOLE,
        "applied": {**_FLAG, "description": "Redis has this version"},
        "rounds": _WHOLE,
        "quota": _WHOLE,
        "opens_at": _or_null(_TIME),
        "closes_at": _or_null(_TIME),
        "created_at": _TIME,
    }
    counts = {"round": _WHOLE, "quota": _WHOLE, "granted": _WHOLE, "returned": _WHOLE}
    in_redis = {
        **dict.fromkeys(("schema", "status", "run"), _TEXT),
        **dict.fromkeys(("version", "epoch", "generation", "serial", "seq", "watermark"), _WHOLE),
        "rounds": {"type": "array", "items": _object({**counts, "left": _WHOLE})},
    }
    in_ledger = {
        "applied_version": _WHOLE,
        "epoch": _WHOLE,
        "operation": _TEXT,
        "published_at": _or_null(_TIME),
        "definition": _ref("Definition"),
        "rounds": {
            "type": "array",
            "items": _object({**counts, "opens_at": _TIME, "closes_at": _TIME}),
        },
        "warmed": {**_FLAG, "description": "Redis has the campaign"},
        "confirmed": {**_FLAG, "description": "Redis is sure to have all of it, and grants"},
        "redis": _or_null(_object(in_redis)),
        "trouble": _or_null(_TEXT),
        "rebuild_needed": {**_FLAG, "description": "nothing else opens it again"},
        "rebuild": _or_null(_ref("LastRebuild")),
    }
    last_rebuild = {
        "operation": _TEXT,
        "step": {"enum": ["DRAIN", "SEED", "SWITCH", "DONE"]},
        "begun_at": _TIME,
        "ended_at": _or_null(_TIME),
        **{
            name: _or_null(_WHOLE)
            for name in ("epoch", "cut", "coupons", "taken_over", "lost_max", "lost_seen")
        },
    }
    done = {
        **dict.fromkeys(("campaign_id", "action", "operation"), _TEXT),
        "status": _STATUS,
        "version": _WHOLE,
        "repeated": {**_FLAG, "description": "done before, under the same Idempotency-Key"},
    }
    returned = {
        **dict.fromkeys(("grab_id", "campaign_id", "action", "operation"), _TEXT),
        **dict.fromkeys(("serial", "round", "version"), _WHOLE),
        "state": {"const": "RETURNED"},
        "repeated": done["repeated"],
        "applied": {**_FLAG, "description": "Redis has it: the coupon can be granted again"},
    }
    segment = {"campaign_id": _TEXT, "segment": _TEXT, "members": _WHOLE}
    segment_loaded = {
        **segment,
        **dict.fromkeys(("action", "operation", "stamp"), _TEXT),
        "version": {**_WHOLE, "description": "of the campaign; a list does not change it"},
        "repeated": done["repeated"],
        "there": {**_FLAG, "description": "the same list was there"},
        "applied": {**_FLAG, "description": "Redis has it, and every gateway within a second"},
    }
    whom = {"kind": {"enum": list(KINDS)}, "subject": _TEXT}
    block = {**whom, "why": _TEXT, "by": _TEXT, "until": _or_null(_TIME), "since": _TIME}
    details = {
        "round": _WHOLE,
        "quota": _WHOLE,
        "trouble": _TEXT,
        "rebuild": _or_null(_ref("LastRebuild")),
    }
    refusal = {
        "type": {"type": "string", "format": "uri-reference"},
        "title": _TEXT,
        "status": _WHOLE,
        "code": {"enum": [code.name for code in Code]},
        "detail": _TEXT,
    }
    difference = _object({"field": _TEXT, "there": {}, "given": {}})
    extra = {
        "request_id": _TEXT,
        "retry_after_ms": _WHOLE,
        "missing": {"type": "array", "items": _TEXT},
        "differences": {"type": "array", "items": difference},
    }
    _, bodies = msgspec.json.schema_components(
        (
            *(Definition, Restock, Rebuild, Empty),
            *(NewToken, SignIn, NewViewLink, AddBlock, RemoveBlock),
        ),
        ref_template="#/components/schemas/{name}",
    )
    return {
        **bodies,
        **openapi_staff.schemas(),
        "Campaigns": _object(
            {"campaigns": {"type": "array", "items": _object(brief)}, "next": _or_null(_TEXT)}
        ),
        "Campaign": _object({**brief, **in_ledger}),
        "LastRebuild": _object(last_rebuild),
        "Created": _object({**done, "there": _FLAG}),
        "Done": _object({**done, "applied": _FLAG}, details),
        "Returned": _object(returned, {"trouble": _TEXT}),
        "Segment": _object({**segment, "stamp": _or_null(_TEXT), "loaded_at": _or_null(_TIME)}),
        "SegmentLoaded": _object(segment_loaded, {"trouble": _TEXT}),
        "Blocks": _object(
            {"blocks": {"type": "array", "items": _object(block)}, "next": _or_null(_TEXT)}
        ),
        "Blocked": _object({**block, "applied": segment_loaded["applied"]}, {"trouble": _TEXT}),
        "Unblocked": _object(
            {**whom, "removed": _FLAG, "applied": segment_loaded["applied"]}, {"trouble": _TEXT}
        ),
        "Problem": _object(refusal, extra),
    }
