"""The OpenAPI document against the routes, the outcomes, and the rules of OpenAPI 3.1 itself."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from flashgrab.docs.routes import PAGES
from flashgrab.outcomes import Outcome
from gateway.openapi import document
from gateway.routes import ROUTES
from tests.gateway.serving import Served

METHODS = {"get", "post", "put", "delete", "patch", "head", "options", "trace"}
OPERATION = {"summary", "security", "parameters", "requestBody", "responses"}
SCHEMA = {
    *("type", "properties", "required", "items", "enum", "const", "format", "pattern"),
    *("description", "$ref"),
}
TYPES = {"object", "array", "string", "integer"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def schemas(at: Any) -> Iterator[dict[str, Any]]:
    """A schema and every schema inside it."""
    yield at
    for inner in at.get("properties", {}).values():
        yield from schemas(inner)
    if "items" in at:
        yield from schemas(at["items"])


def test_it_names_exactly_the_routes() -> None:
    """Every path and method that is served is in the document, but for pages with a reason."""
    served = {
        (route.path, method.lower())
        for route in ROUTES
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(path, method) for path, method, _ in operations()}
    assert described | {(path, "get") for path in PAGES} == served
    assert not PAGES.keys() & document()["paths"].keys()
    assert all(PAGES.values())


def test_its_frame_is_openapi_3_1() -> None:
    """Required members are there, and only members that the specification knows."""
    assert set(document()) == {"openapi", "info", "paths", "components"}
    assert re.fullmatch(r"3\.1\.\d+", document()["openapi"])
    assert set(document()["info"]) == {"title", "version"}
    assert set(document()["components"]) == {"securitySchemes", "schemas"}
    for scheme in document()["components"]["securitySchemes"].values():
        assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")


def test_every_operation_is_well_formed() -> None:
    """Path parameters are those of the path; responses have descriptions; schemes are defined."""
    for path, method, operation in operations():
        assert method in METHODS
        assert set(operation) <= OPERATION
        assert operation["summary"]
        parameters = operation.get("parameters", [])
        named = {p["name"] for p in parameters if p["in"] == "path"}
        assert named == set(re.findall(r"\{(\w+)\}", path))
        for parameter in parameters:
            assert set(parameter) == {"name", "in", "required", "schema"}
            if parameter["in"] != "query":
                assert parameter["required"] == (parameter["in"] == "path")
            re.compile(parameter["schema"].get("pattern", ""))
        for need in operation.get("security", []):
            assert set(need) <= set(document()["components"]["securitySchemes"])
        assert operation["responses"]
        for status, response in operation["responses"].items():
            assert re.fullmatch(r"[1-5]\d\d", status)
            assert response["description"]
            problem = int(status) >= 400
            for media in response.get("content", {}):
                assert (media == "application/problem+json") == problem


def test_every_reference_leads_somewhere() -> None:
    """References name schemas of the document; every schema is used."""
    defined = document()["components"]["schemas"]
    used = set()
    for _, _, operation in operations():
        contents = [r.get("content", {}) for r in operation["responses"].values()]
        contents.append(operation.get("requestBody", {}).get("content", {}))
        for content in contents:
            for media in content.values():
                used.add(media["schema"]["$ref"].removeprefix("#/components/schemas/"))
    assert used == set(defined)


def test_every_schema_is_well_formed() -> None:
    """Known keywords and types; what is required has its property."""
    for root in document()["components"]["schemas"].values():
        for schema in schemas(root):
            assert set(schema) <= SCHEMA
            assert schema.get("type", "string") in TYPES
            assert set(schema.get("required", [])) <= set(schema.get("properties", {}))
            assert "items" in schema or schema.get("type") != "array"


def test_every_outcome_is_in_it() -> None:
    """The codes of problems are the closed list, and each appears under its status."""
    refusals = [o for o in Outcome if o.value.status >= 400]
    problem = document()["components"]["schemas"]["Problem"]
    assert problem["properties"]["code"]["enum"] == [o.name for o in refusals]
    described = {
        (status, name)
        for _, _, operation in operations()
        for status, response in operation["responses"].items()
        for name in response["description"].split(", ")
    }
    everywhere = {Outcome.METHOD_NOT_ALLOWED}  # not of one route: every address has it
    for outcome in set(refusals) - everywhere:
        assert (str(outcome.value.status), outcome.name) in described


@pytest.mark.anyio
async def test_answers_fit_their_schemas(served: Served) -> None:
    """Real answers have exactly the properties that the document gives them."""
    campaign_id = await served.campaign()
    bearer = {"authorization": f"Bearer {served.token(campaign_id, 'u1')}"}
    minted = await served.http.post("/demo/identity", json={"user_id": "u1"})
    login = {"authorization": f"Bearer {minted.json()['token']}"}
    answers = {
        "DemoIdentity": minted,
        "Grab": await served.grab(campaign_id, key="k"),
        "GrabState": await served.http.get(f"/v1/grabs/{campaign_id}-1", headers=bearer),
        "Pass": await served.http.post(f"/v1/campaigns/{campaign_id}/passes", headers=login),
        "Campaign": await served.http.get(f"/v1/campaigns/{campaign_id}"),
        "Campaigns": await served.http.get("/v1/campaigns"),
        "Problem": await served.http.get("/nothing"),
        "ReceiptKeys": await served.http.get("/v1/receipt-keys"),
    }
    described = document()["components"]["schemas"]
    for name, answer in answers.items():
        schema = described[name]
        assert set(schema["required"]) <= set(answer.json()) <= set(schema["properties"])
    given = (await served.http.get("/openapi.json")).json()
    assert given == document()
