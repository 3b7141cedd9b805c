"""The addresses of a service's documents: /docs with its files, /problems, /docs/events.

Nothing here is needed before somebody reads, and the gateway's loop has buyers to serve: what the
pages are made of is imported and read by a thread, at the first request.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import Route

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""`data:` is for the arrows and locks inside Swagger UI's own style sheet."""
SAFE = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
PAGE = SAFE | {"Content-Security-Policy": CSP}
KEPT = {"Cache-Control": "public, max-age=3600"}
MEDIA = {".js": "text/javascript", ".css": "text/css", ".json": "application/json"}

Example = Mapping[str, Any]
"""A problem's body as the service sends it."""

PAGES = {
    "/docs": "a page for people, which shows the document",
    "/docs/files/{name}": "what that page is made of",
    "/docs/events/{name}": "documents of what is said in Kafka, no part of the API",
    "/problems": "a page for people",
    "/problems/{slug}": "a page for people; what `type` of a problem leads to",
}
"""The routes made here, which a service's OpenAPI document leaves out, and why."""


@dataclass(frozen=True)
class Documented:
    """What one service tells of itself. `examples` makes the bodies of all its refusals, by code,
    from the extra fields of the catalogue; `integrate` the first part of /docs."""

    name: str
    codes: Callable[[], frozenset[str]]
    example: Callable[[str, Mapping[str, Any]], Example]
    integrate: Callable[[Request[Any]], Awaitable[str]]


def routes(service: Documented) -> list[Route]:
    """All of them, for anybody, GET only."""

    async def docs(request: Request[Any]) -> Response:
        """GET /docs: how to integrate, and Swagger UI over /openapi.json."""
        from_host = {"Cache-Control": "no-store"}  # the snippets name the host that was asked
        page = await asyncio.to_thread(_page_of, service.name, await service.integrate(request))
        return HTMLResponse(page, headers=PAGE | from_host)

    async def problems(_request: Request[Any]) -> Response:
        """GET /problems: all of them."""
        page = await asyncio.to_thread(_index, service)
        return HTMLResponse(page, headers=PAGE | KEPT)

    async def problem(request: Request[Any]) -> Response:
        """GET /problems/{slug}: what a `type` leads to."""
        page = await asyncio.to_thread(_problem, service, request.path_params["slug"])
        if page is None:
            raise HTTPException(404)
        return HTMLResponse(page, headers=PAGE | KEPT)

    return [
        Route("/docs", docs, methods=["GET"]),
        Route("/docs/files/{name}", _file, methods=["GET"]),
        Route("/docs/events/{name}", _event, methods=["GET"]),
        Route("/problems", problems, methods=["GET"]),
        Route("/problems/{slug}", problem, methods=["GET"]),
    ]


async def _file(request: Request[Any]) -> Response:
    """GET /docs/files/{name}: ours, and Swagger UI's from its wheel."""
    from flashgrab.docs import files

    return await _sent(files.pages, request.path_params["name"])


async def _event(request: Request[Any]) -> Response:
    """GET /docs/events/{name}: AsyncAPI and JSON Schema of what is said in Kafka."""
    from flashgrab.docs import files

    return await _sent(files.events, request.path_params["name"])


async def _sent(folder: Callable[[], Mapping[str, Any]], name: str) -> Response:
    """A file of a closed list: no part of a path comes from outside."""
    path = (await asyncio.to_thread(folder)).get(name)
    if path is None:
        raise HTTPException(404)
    return FileResponse(path, media_type=MEDIA[path.suffix], headers=SAFE | KEPT)


def _page_of(name: str, integrate: str) -> str:
    from flashgrab.docs import frame

    return frame.docs(name, integrate)


def _index(service: Documented) -> str:
    from flashgrab.docs import problems

    return problems.index(service)


def _problem(service: Documented, slug: str) -> str | None:
    from flashgrab.docs import problems

    return problems.page(service, slug)
