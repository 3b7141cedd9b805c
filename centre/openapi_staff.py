"""The part of the OpenAPI document that is about staff: tokens, the log, the page's session."""

from typing import Any

from centre.console.history import FIND_MAX
from flashgrab.ledger.staff_log import PAGE_MAX
from flashgrab.staff import Role

_TEXT = {"type": "string"}
_TIME = {"type": "string", "format": "date-time"}
_NULL = {"type": "null"}
_ROLE = {"enum": [role.value for role in Role]}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


_NO_FILE = {
    "description": "No such file",
    "content": {"application/problem+json": {"schema": _ref("Problem")}},
}


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
        "/v1/view-links": {
            "post": _call(
                "A read-only link to /ops, for colleagues",
                "201",
                "SignInLink",
                writing,
                **keyed,
                requestBody=_body("NewViewLink", required=False),
            )
        },
        **_console(session, reading),
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


def _console(session: dict[str, Any], reading: dict[str, Any]) -> dict[str, Any]:
    """The page, its files and its data, which a read-only link opens too."""
    page = {"200": {"description": "HTML"}}
    seen = {**session, **reading}
    looking: dict[str, Any] = {"security": [{"session": []}, {"staff": []}, {"view": []}]}

    def asked(name: str, required: bool, **schema: Any) -> dict[str, Any]:
        return {"name": name, "in": "query", "required": required, "schema": schema}

    def told(description: str, media: str = "application/json") -> dict[str, Any]:
        shape = "object" if media == "application/json" else "string"
        content = {media: {"schema": {"type": shape}}}
        return {"200": {"description": description, "content": content}, **seen}

    name = {"name": "name", "in": "path", "required": True, "schema": _TEXT}
    of = asked("campaign", True, type="string")
    moments = [asked(n, True, type="integer", description="ms since 1970") for n in ("from", "to")]
    return {
        "/ops": {"get": {"summary": "The page of the staff", "responses": page, "security": []}},
        "/ops/runbook": {"get": {"summary": "The runbook", "responses": page, "security": []}},
        "/ops/static/{name}": {
            "get": {
                "summary": "A file of the page",
                "parameters": [name],
                "responses": {"200": {"description": "Script or style"}, "404": _NO_FILE},
                "security": [],
            }
        },
        "/ops/campaigns": {
            "get": {
                "summary": "Published campaigns, the nearest to now, or with `find` in id or name",
                "parameters": [asked("find", False, type="string", maxLength=FIND_MAX)],
                "responses": told("With their rounds"),
                **looking,
            }
        },
        "/ops/history": {
            "get": {
                "summary": "What happened, as rows of 100 ms or longer (centre/console/shapes.py)",
                "parameters": [of, *moments],
                "responses": told("Rows and notes"),
                **looking,
            }
        },
        "/ops/stream": {
            "get": {
                "summary": "What happens, as server-sent events (centre/console/shapes.py)",
                "parameters": [of],
                "responses": told("Events `tick`", "text/event-stream"),
                **looking,
            }
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
        "Session": of(
            name=_TEXT,
            role=_ROLE,
            expires_at=_TIME,
            csrf=_TEXT,
            may={"type": "array", "items": _TEXT},
        ),
    }
