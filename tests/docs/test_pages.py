"""/docs, /problems and the events' documents, as both running services give them out."""

import re
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from flashgrab.docs.files import OURS, SWAGGER
from tests.docs.conftest import Services
from tests.docs.shelf import links
from tests.e2e.running import Stack

pytestmark = [pytest.mark.xdist_group("stack")]
BOTH = pytest.mark.parametrize("service", ["gateway", "centre"])
Get = Callable[[str, str], httpx2.Response]


@pytest.fixture
def get(services: Services) -> Get:
    """GET of a path at one of the two services."""
    return lambda service, path: services[service].get(path)


def policy(answer: httpx2.Response) -> dict[str, str]:
    """Its Content-Security-Policy, by directive."""
    rules = answer.headers["content-security-policy"].split(";")
    return {name: " ".join(rest) for name, *rest in (rule.split() for rule in rules)}


@BOTH
def test_the_page_needs_no_other_host(service: str, get: Get) -> None:
    """What it refers to is ours and there; nothing is inline; its policy forbids the rest."""
    page = get(service, "/docs")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["cache-control"] == "no-store"
    for link in links(page.text) - {"data:,"}:
        assert link.startswith("/")
        assert get(service, link.partition("#")[0]).status_code == 200
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on\w+=", page.text)
    rules = policy(page)
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert {f"/docs/files/{name}" for name in (*OURS, *SWAGGER)} <= links(page.text)


@BOTH
def test_files_are_a_closed_list(service: str, get: Get) -> None:
    """Kept by browsers, of their own type; no path leads anywhere else."""
    for name, media in (("docs.js", "text/javascript"), ("swagger-ui.css", "text/css")):
        answer = get(service, f"/docs/files/{name}")
        assert answer.headers["content-type"].startswith(media)
        assert "max-age" in answer.headers["cache-control"]
        assert answer.headers["etag"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    for path in ("routes.py", "..%2froutes.py", "%2e%2e/routes.py", "", "docs.js/x"):
        missing = get(service, f"/docs/files/{path}")
        assert (missing.status_code, missing.json()["code"]) == (404, "NOT_FOUND")


def test_the_swagger_ui_is_whole() -> None:
    """The wheel's script is the library itself, not a loader of one from elsewhere."""
    from flashgrab.docs.files import pages

    script = pages()["swagger-ui-bundle.js"].read_text(encoding="utf-8")
    assert len(script) > 1_000_000
    assert "SwaggerUIBundle" in script


@BOTH
def test_an_odd_host_is_not_repeated(service: str, services: Services) -> None:
    """A Host header that is no host does not get into the programs."""
    for host in ("x$(id)", 'x"y', "evil host", "<script>"):
        page = services[service].get("/docs", headers={"host": host})
        assert host not in page.text
        assert "<script>" not in page.text


def test_a_campaign_is_chosen(running_stack: Stack, services: Services) -> None:
    """By ?campaign= where it is one that there is, else one that grants."""
    from tests.e2e.running import simple

    chosen = running_stack.campaign(simple("chosen-by-docs", quota=1))
    page = services["gateway"].get(f"/docs?campaign={chosen}").text
    assert f"CAMPAIGN={chosen}\n" in page
    for odd in ("", "?campaign=no-such", "?campaign=%22%3E%3Cscript%3E"):
        page = services["gateway"].get(f"/docs{odd}").text
        (first,) = set(re.findall(r"^CAMPAIGN=(\S+)$", page, re.MULTILINE)) - {""}
        assert running_stack.get(f"/v1/campaigns/{first}")["status"] in ("CLAIMABLE", "NOT_STARTED")


@BOTH
def test_the_document_is_openapi_3_1(service: str, get: Get) -> None:
    """By the specification's own rules."""
    OpenAPIV31SpecValidator(get(service, "/openapi.json").json()).validate()


FILLED = {
    "campaign_id": "c-1",
    "grab_id": "c-1-1",
    "id": "0" * 16,
    "version": "0" * 16,
    "name": "page.css",
}


@BOTH
def test_every_described_route_answers(
    service: str, running_stack: Stack, services: Services, get: Get
) -> None:
    """With an answer of its own: neither 404 NOT_FOUND nor 405, whatever else is wrong."""
    http = services[service]
    described: dict[str, dict[str, Any]] = get(service, "/openapi.json").json()["paths"]
    token = running_stack.secrets()["FLASHGRAB_ADMIN_TOKEN"] if service == "centre" else "x"
    asked = 0
    for path, item in described.items():
        for method in item:
            values = FILLED | ({"name": "console.css"} if path.startswith("/ops/") else {})
            filled = re.sub(r"\{(\w+)\}", lambda m, v=values: v[m[1]], path)  # type: ignore[misc]
            # no Idempotency-Key: a write of the centre is refused before it does anything
            answer = http.request(method, filled, headers={"authorization": f"Bearer {token}"})
            code = answer.json().get("code") if "problem" in answer.headers["content-type"] else ""
            assert code not in ("NOT_FOUND", "METHOD_NOT_ALLOWED"), f"{method} {path}"
            assert answer.status_code < 500
            asked += 1
    assert asked >= 10
