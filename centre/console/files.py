"""The console's page, script and styles, and the runbook as a page: all read once, all our own."""

import hashlib
import importlib.resources
import re
from functools import cache
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from centre.problems import Code, Problem

FOLDER = Path(__file__).parent / "static"
TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
CHECKOUT = Path(__file__).parent.parent.parent

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PAGE = (FOLDER / "console.html").read_text()

_FILES = {path.name: path.read_bytes() for path in FOLDER.iterdir() if path.suffix in TYPES}
_TAGS = {name: f'"{hashlib.sha256(body).hexdigest()[:20]}"' for name, body in _FILES.items()}


async def page(_request: Request[Any]) -> Response:
    """GET /ops: the same for everybody; it asks /ops/session who is signed in."""
    return HTMLResponse(PAGE, headers=HEADERS | {"Cache-Control": "no-store"})


async def static(request: Request[Any]) -> Response:
    """GET /ops/static/{name}: asked for anew each time, sent only where it changed."""
    name = str(request.path_params["name"])
    if name not in _FILES:
        raise Problem(Code.NOT_FOUND, "there is no such file")
    headers = HEADERS | {"Cache-Control": "no-cache", "ETag": _TAGS[name]}
    if request.headers.get("if-none-match") == _TAGS[name]:
        return Response(None, 304, headers)
    return Response(_FILES[name], 200, headers, TYPES[Path(name).suffix])


async def runbook(_request: Request[Any]) -> Response:
    """GET /ops/runbook: docs/runbook.md, each heading with its anchor."""
    return HTMLResponse(rendered(), headers=HEADERS | {"Cache-Control": "no-cache"})


@cache
def rendered() -> str:
    """docs/runbook.md as a page."""
    html = str(MarkdownIt("commonmark").enable("table").render(_runbook()))
    html = re.sub(r"<h([12])>([\w-]+)</h\1>", _anchored, html)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Flashgrab runbook'
        '</title><meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/ops/static/icon.svg">'
        '<link rel="stylesheet" href="/ops/static/console.css"></head>'
        f'<body class="document"><p><a href="/ops">Console</a></p><main>{html}</main></body></html>'
    )


def _anchored(heading: "re.Match[str]") -> str:
    level, words = heading.groups()
    return f'<h{level} id="{words.lower()}">{words}</h{level}>'


def _runbook() -> str:
    """From the package, else from the checkout."""
    packed = importlib.resources.files("centre") / "console" / "runbook.md"
    if packed.is_file():
        return packed.read_text(encoding="utf-8")
    return (CHECKOUT / "docs" / "runbook.md").read_text(encoding="utf-8")
