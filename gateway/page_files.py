"""Files of the buyer's page, read once, and the words of its languages.

Their address carries a digest of all of them, so that whoever fetched one need not ask again. In a
rolling upgrade a gateway is asked for files of another release: it gives its own, to be forgotten.
"""

import json
import re
from collections.abc import Mapping
from hashlib import blake2s
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from starlette.requests import Request
from starlette.responses import Response

from flashgrab.outcomes import Outcome
from flashgrab.state import CampaignState
from gateway.campaigns import Campaign
from gateway.replies import problem

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
TYPES = {
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
FOR_EVER = "public, max-age=31536000, immutable"
LANGUAGES = ("en", "zh")


class File(NamedTuple):
    """One file as it is sent."""

    body: bytes
    media: str


class Html(NamedTuple):
    """A page as it is sent, and its ETag."""

    body: bytes
    tag: str


def html(text: str) -> Html:
    """A page, ready to be sent often."""
    body = text.encode()
    return Html(body, f'"{blake2s(body, digest_size=8).hexdigest()}"')


class Pages:
    """The pages that were made, one set a process: those of a campaign as long as its state is the
    same object, and for a moment the list, which is made of all of them."""

    def __init__(self) -> None:
        self.of: WeakKeyDictionary[Campaign, dict[str, tuple[CampaignState, Html]]] = (
            WeakKeyDictionary()
        )
        self.lists: dict[str, tuple[int, Html]] = {}  # language → until when (ms), the page


FILES = {
    path.name: File(path.read_bytes(), TYPES[path.suffix])
    for path in sorted(STATIC.iterdir())
    if path.suffix in TYPES
}
VERSION = blake2s(
    b"".join(name.encode() + b"\0" + file.body for name, file in FILES.items()), digest_size=8
).hexdigest()
BASE = f"/static/{VERSION}"
WORDS: Mapping[str, Mapping[str, str]] = {
    language: json.loads(FILES[f"{language}.json"].body) for language in LANGUAGES
}

_is_version = re.compile(r"[0-9a-f]{16}", re.ASCII).fullmatch
_GAP = re.compile(r"\{\{(&?)([\w.]+)\}\}")
_TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in TEMPLATES.iterdir()}


async def static_file(request: Request[Any]) -> Response:
    """GET /static/{version}/{name}: one of the page's files."""
    file = FILES.get(request.path_params["name"])
    version = request.path_params["version"]
    if file is None or not _is_version(version):
        return problem(Outcome.NOT_FOUND)
    is_ours = version == VERSION
    headers = {
        "Cache-Control": FOR_EVER if is_ours else "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(file.body, 200, headers, file.media)


async def challenge_worker(_request: Request[Any]) -> Response:
    """GET /static/challenge-worker.js: solves what flashgrab/challenge.py asks; also for a shop's
    own page, under a name that stays."""
    headers = {"Cache-Control": "public, max-age=3600", "X-Content-Type-Options": "nosniff"}
    file = FILES["challenge-worker.js"]
    return Response(file.body, 200, headers, file.media)


def fill(template: str, language: str, values: Mapping[str, str]) -> str:
    """A template with its gaps filled: {{name}} by a value or a word, escaped; {{&name}} as it
    is, which is for HTML of our own."""
    known = {**WORDS[language], "language": language, "static": BASE, **values}

    def filled(gap: re.Match[str]) -> str:
        text = known[gap[2]]
        return text if gap[1] else escape(text)

    return _GAP.sub(filled, _TEMPLATES[template])
