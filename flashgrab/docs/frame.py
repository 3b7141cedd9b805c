"""What all pages of the documents share: head, navigation, and code that can be copied."""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple


class Snippet(NamedTuple):
    """A program to copy: what it is for, its language, the text."""

    title: str
    language: str
    text: str


def page(title: str, body: str, scripts: Sequence[str] = (), styles: Sequence[str] = ()) -> str:
    """A whole page around a body that is HTML already."""
    heads = [f'<link rel="stylesheet" href="/docs/files/{name}">' for name in (*styles, "docs.css")]
    heads += [f'<script src="/docs/files/{name}" defer></script>' for name in (*scripts, "docs.js")]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,">{"".join(heads)}</head><body>'
        '<header><nav aria-label="Documents"><strong>Flashgrab</strong>'
        '<a href="/docs">Integrate</a><a href="/docs#api">API</a><a href="/problems">Problems</a>'
        '<a href="/docs/events/asyncapi.json">Events</a></nav></header>'
        f"<main>{body}</main></body></html>"
    )


def docs(name: str, integrate: str) -> str:
    """/docs: `integrate`, then the API in Swagger UI."""
    body = (
        f"<h1>Flashgrab {escape(name)}</h1>{integrate}"
        '<h2 id="api">API</h2><p>OpenAPI 3.1: <a href="/openapi.json">/openapi.json</a>. What is'
        ' said in Kafka: <a href="/docs/events/asyncapi.json">AsyncAPI 3</a> and'
        ' <a href="/docs/events/grabs.schema.json">JSON Schema</a>.</p>'
        "<noscript><p>The page that shows the API needs JavaScript; the document does not.</p>"
        '</noscript><div id="swagger-ui"></div>'
    )
    scripts, styles = ["swagger-ui-bundle.js"], ["swagger-ui.css"]
    return page(f"Flashgrab {name}: documents", body, scripts, styles)


def code(number: int, snippet: Snippet) -> str:
    """One program, the first of them open; its button is shown by docs.js, which makes it work."""
    shown = " open" if number == 1 else ""
    return (
        f'<details class="snippet"{shown}><summary>{escape(snippet.title)}'
        f" <small>{escape(snippet.language)}</small></summary>"
        f'<button type="button" class="copy" data-copies="snippet-{number}" hidden>'
        f'Copy</button><pre tabindex="0" id="snippet-{number}"'
        f' data-language="{escape(snippet.language)}">{escape(snippet.text)}</pre></details>'
    )


def paragraph(text: str) -> str:
    """A paragraph in which `…` is code."""
    parts = escape(text, quote=False).split("`")
    marked = [f"<code>{part}</code>" if n % 2 else part for n, part in enumerate(parts)]
    return f"<p>{''.join(marked)}</p>"
