"""A page as its reader has it: what is to be copied, and the links that lead on."""

import html
import re

import httpx2

SNIPPET = re.compile(
    r'class="snippet"[^>]*><summary>(.*?) <small>(.*?)</small></summary>.*?<pre[^>]*>(.*?)</pre>',
    re.DOTALL,
)


def snippets(url: str, campaign_id: str) -> dict[tuple[str, str], str]:
    """The programs of /docs by title and language, as they are shown."""
    answer = httpx2.get(f"{url}/docs", params={"campaign": campaign_id}, timeout=20)
    assert answer.status_code == 200
    found = SNIPPET.findall(answer.text)
    return {(html.unescape(t), html.unescape(lang)): html.unescape(p) for t, lang, p in found}


def links(page: str) -> set[str]:
    """Everything that a page refers to: what is followed, and what is loaded."""
    return {html.unescape(link) for link in re.findall(r'(?:href|src|action)="([^"]*)"', page)}
