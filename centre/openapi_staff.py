"""The part of the OpenAPI document that is about staff: tokens, the log, the page's session."""

from typing import Any

from flashgrab.ledger.staff_log import PAGE_MAX
from flashgrab.staff import Role

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_NULL = {"type": "null"}
_ROLE = {"enum": [role.value for role in Role]}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, name: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _ref(name)}}}


def _call(summary: str, status: str, name: str, refusals: dict[str, Any], **more: Any) -> Any:
    responses = {status: _answer(summary, name), **refusals}
    return {"summary": summary, "responses": responses, **more}


def _body(name: str, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": _ref(name)}}}


def paths(
    key: dict[str, Any],
    reading: dict[str, Any],
    writing: dict[str, Any],
    revoking: dict[str, Any],
    session: dict[str, Any],
) -> dict[str, Any]:
    """By path; the arguments are what centre/openapi.py has of headers and refusals."""
    keyed = {"parameters": [key]}
    id_ = {"name": "id", "in": "path", "required": True, "schema": _TEXT}
    limit = {"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": 100}
    asked = [
        {"name": "limit", "in": "query", "schema": limit},
        {"name": "name", "in": "query", "schema": _TEXT},
    ]
    out = {"200": {"description": "Signed out"}, **session}
    page = {"200": {"description": "HTML"}}
    cookie: dict[str, Any] = {"security": [{"session": []}]}
    return {
        "/v1/sign-ins": {
            "post": _call(
                "A link that signs the caller in to /ops, once",
                "201",
                "SignInLink",
                writing,
                **keyed,
                requestBody=_body("Empty", required=False),
            )
        },
        "/v1/tokens": {
            "get": _call("Tokens, links and sessions", "200", "Tokens", reading),
            "post": _call(
                "A token, shown this once",
                "201",
                "TokenMade",
                writing,
                **keyed,
                requestBody=_body("NewToken"),
            ),
        },
        "/v1/tokens/{id}/revoke": {
            "post": _call(
                "Revoked, with the sessions made by it",
                "200",
                "Token",
                revoking,
                parameters=[id_, key],
                requestBody=_body("Empty", required=False),
            )
        },
        "/v1/log": {
            "get": _call("Writes, the newest first", "200", "StaffLog", reading, parameters=asked)
        },
        "/ops": {"get": {"summary": "The page of the staff", "responses": page, "security": []}},
        "/ops/session": {
            "get": _call("Who is signed in", "200", "Session", session, **cookie),
            "post": _call(
                "Sign in by a link",
                "201",
                "Session",
                session,
                requestBody=_body("SignIn"),
                security=[],
            ),
            "delete": {"summary": "Sign out", "responses": out, **cookie},
        },
    }


def schemas() -> dict[str, Any]:
    """By name."""

    def of(**fields: Any) -> dict[str, Any]:
        return {"type": "object", "required": list(fields), "properties": fields}

    or_time, state = {"anyOf": [_TIME, _NULL]}, {"type": ["object", "null"]}
    token = of(
        id=_TEXT,
        kind={"enum": ["token", "link", "session"]},
        name=_TEXT,
        role=_ROLE,
        made_by=_TEXT,
        created_at=_TIME,
        expires_at=_TIME,
        ended_at=or_time,
    )
    texts = ("entry", "name", "role", "credential", "action", "target", "operation")
    entry = of(
        **dict.fromkeys(texts, _TEXT),
        before=state,
        after=state,
        status={"type": ["integer", "null"]},
        code={"type": ["string", "null"]},
        at=_TIME,
        ended_at=or_time,
    )
    return {
        "Token": token,
        "Tokens": of(tokens={"type": "array", "items": _ref("Token")}),
        "TokenMade": of(id=_TEXT, name=_TEXT, role=_ROLE, expires_at=_TIME, token=_TEXT),
        "StaffLog": of(entries={"type": "array", "items": entry}),
        "SignInLink": of(path=_TEXT, url={"type": ["string", "null"]}, expires_at=_TIME),
        "Session": of(name=_TEXT, role=_ROLE, expires_at=_TIME, csrf=_TEXT),
    }
