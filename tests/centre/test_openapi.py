"""The centre's own description agrees with its routes and its refusals."""

import json
import re
from collections.abc import Iterator

from starlette.routing import BaseRoute, Mount, Route

from centre.openapi import document
from centre.problems import Code
from centre.routes import routes
from flashgrab.docs.routes import PAGES


def served(found: list[BaseRoute], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every path with its method, HEAD left out."""
    for route in found:
        if isinstance(route, Mount):
            yield from served(route.routes, prefix + route.path)
        elif isinstance(route, Route):
            for method in (route.methods or set()) - {"HEAD"}:
                yield prefix + route.path, method.lower()


def test_every_route_is_described_and_nothing_else() -> None:
    """The document's paths and methods are those of the routes, but for pages with a reason."""
    described = {(path, method) for path, item in document()["paths"].items() for method in item}
    assert described | {(path, "get") for path in PAGES} == set(served(routes()))
    assert not PAGES.keys() & document()["paths"].keys()
    assert all(PAGES.values())


def test_every_refusal_is_described() -> None:
    """Each code of the closed list stands at a status of some operation, except the general two."""
    text = json.dumps(list(document()["paths"].values()))
    missing = {code.name for code in Code if not re.search(rf"\b{code.name}\b", text)}
    assert missing == {"NOT_FOUND", "METHOD_NOT_ALLOWED"}


def test_every_reference_leads_somewhere() -> None:
    """No $ref of the document is dead, and no schema is there for nothing."""
    text = json.dumps(document())
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert referred == set(document()["components"]["schemas"])


def test_every_write_takes_an_idempotency_key() -> None:
    """Each POST of the API names the header as required; the page's session takes none."""
    for path, item in document()["paths"].items():
        if "post" in item and path.startswith("/v1"):
            names = {p["name"] for p in item["post"]["parameters"] if p["required"]}
            assert "Idempotency-Key" in names, path
