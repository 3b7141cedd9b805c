"""The buyer's pages in the OpenAPI document: HTML and files, for people and not for programs."""

from typing import Any

from flashgrab.ids import CAMPAIGN_ID

FORM = (
    "The page without JavaScript: form fields identity (a shop's token), user (demo only), claim,"
    " lang and key; without a key it answers a page that has one"
)


def _path(name: str, pattern: str) -> dict[str, Any]:
    schema = {"type": "string", "pattern": f"^{pattern}$"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _says(*statuses: int) -> dict[str, Any]:
    names = {200: "The page", 201: "Granted", 304: "Not changed"}
    return {str(s): {"description": names.get(s, "A page that says why not")} for s in statuses}


PAGE_PATHS: dict[str, Any] = {
    "/": {"get": {"summary": "The buyer's list of campaigns", "responses": _says(200, 304, 503)}},
    "/c/{campaign_id}": {
        "get": {
            "summary": "The buyer's page of one campaign",
            "parameters": [_path("campaign_id", CAMPAIGN_ID)],
            "responses": _says(200, 304, 404, 503),
        }
    },
    "/c/{campaign_id}/grab": {
        "post": {
            "summary": FORM,
            "parameters": [_path("campaign_id", CAMPAIGN_ID)],
            "responses": _says(200, 201, 400, 401, 403, 404, 409, 413, 429, 503),
        }
    },
    "/static/{version}/{name}": {
        "get": {
            "summary": "A file of the buyer's pages",
            "parameters": [_path("version", "[0-9a-f]{16}"), _path("name", "[a-z0-9.-]{1,40}")],
            "responses": {
                "200": {"description": "The file"},
                "404": {"description": "No such file"},
            },
        }
    },
}
