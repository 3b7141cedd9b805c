"""The problem catalogue: what the `type` of a problem leads to, for each code a service has.

The words are in problems.toml; status, title and body come from the service itself, so that the
page cannot say otherwise than the answer. Tests hold the codes against the words, both ways.
"""

import json
import tomllib
from collections.abc import Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from flashgrab.docs.frame import page as framed
from flashgrab.docs.frame import paragraph
from flashgrab.docs.routes import Documented

WORDS = Path(__file__).with_name("problems.toml")
COMMON = {
    "type": "this page's address",
    "title": "the same for every answer with this code",
    "status": "the HTTP status again",
    "code": "what programs should look at; a closed list",
    "detail": "for people; it may change",
}
BESIDES = {
    "request_id": "leads to the line in our log, where there is one: name it when you ask us"
}
"""Fields that the service may put into any problem's body."""
RETRY = "how long to wait before the next try; the Retry-After header says it in whole seconds"


class Words(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said of one code. `fields`: an example of each extra field, and its meaning."""

    what: str
    why: str
    integrator: str
    operator: str
    buyer: str = ""
    fields: dict[str, tuple[Any, str]] = {}


@cache
def catalogue() -> Mapping[str, Words]:
    """All codes of both services."""
    return msgspec.convert(tomllib.loads(WORDS.read_text(encoding="utf-8")), dict[str, Words])


def slug_of(code: str) -> str:
    """SOLD_OUT is at /problems/sold-out."""
    return code.lower().replace("_", "-")


def code_of(slug: str) -> str:
    """The other way; what is no slug of ours gives a code that does not exist."""
    code = slug.upper().replace("-", "_")
    return code if slug == slug_of(code) else ""


def page(service: Documented, slug: str) -> str | None:
    """The page of one problem; None where the service has no such code."""
    code = code_of(slug)
    words = catalogue().get(code)
    if words is None or code not in service.codes():
        return None
    example = service.example(code, {name: value for name, (value, _) in words.fields.items()})
    title = f"{example['title']} ({example['status']} {code})"
    people = {
        "As a buyer": words.buyer,
        "As an integrator": words.integrator,
        "As an operator": words.operator,
    }
    body = [
        f"<h1>{escape(str(example['title']))}</h1>",
        f"<p><code>{example['status']}</code> <code>{code}</code></p>",
        "<h2>What happened</h2>",
        paragraph(words.what),
        "<h2>Why</h2>",
        paragraph(words.why),
        "<h2>What to do</h2>",
        *(f"<h3>{who}</h3>{paragraph(text)}" for who, text in people.items() if text),
        "<h2>The answer</h2>",
        f'<pre tabindex="0">{escape(json.dumps(example, indent=2, ensure_ascii=False))}</pre>',
        _fields(example, words),
    ]
    return framed(title, "".join(body))


def index(service: Documented) -> str:
    """All problems of a service, by status and code."""
    rows = []
    for code in service.codes():
        example = service.example(code, {})
        rows.append((int(example["status"]), code, escape(str(example["title"]))))
    shown = "".join(
        f"<tr><td>{status}</td>"
        f'<td><a href="/problems/{slug_of(code)}"><code>{code}</code></a></td><td>{title}</td></tr>'
        for status, code, title in sorted(rows)
    )
    body = (
        f"<h1>Problems of the {escape(service.name)}</h1>"
        "<p>A refusal is <code>application/problem+json</code> (RFC 9457). Programs look at"
        " <code>code</code>; every 429 and 503 says in <code>retry_after_ms</code> when to try"
        " again. Repeat with the same Idempotency-Key: that never gets a second coupon.</p>"
        f"<table><thead><tr><th>Status</th><th>Code</th><th>Title</th></tr></thead>{shown}</table>"
    )
    return framed(f"Problems of the {service.name}", body)


def _fields(example: Mapping[str, Any], words: Words) -> str:
    known = (
        COMMON
        | BESIDES
        | {"retry_after_ms": RETRY}
        | {n: text for n, (_, text) in words.fields.items()}
    )
    names = [*example, *(name for name in BESIDES if name not in example)]
    rows = (f"<dt><code>{name}</code></dt><dd>{escape(known[name])}</dd>" for name in names)
    return f"<dl>{''.join(rows)}</dl>"
