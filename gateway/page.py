"""The buyer's pages as HTML: `/` and `/c/{campaign_id}`.

Made from memory, the same for everybody, and of what does not move: name, rule and times of a
campaign. What moves the page's own script asks for. So a CDN can hold all of it, and 10,000 views
cost Redis nothing.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from flashgrab.clock import to_rfc3339
from flashgrab.outcomes import Outcome
from flashgrab.state import CampaignState
from gateway.campaigns import Campaign
from gateway.gateway import Gateway, State
from gateway.page_files import LANGUAGES, WORDS, Html, fill, html, static_file

PAGE_MAX_AGE_S = 60
LIST_MAX_AGE_S = 10
LIST_MADE_EACH_MS = 1000
REFUSED_MAX_AGE_S = 1
LISTED_MAX = 100
"""Campaigns on the first page, the next to open first."""
LISTED_AFTER_MS = 3_600_000
"""For so long after its end a campaign stays there."""

SAFE = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self';"
        " img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none';"
        " frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",  # an address may hold a claim
}
HTML = "text/html"


async def first_page(request: Request[State]) -> Response:
    """GET /: the campaigns that are for everybody."""
    gateway = request.state["gateway"]
    language = language_of(request.query_params.get("lang"))
    if not gateway.catalogue.loaded:
        return refused(language, Outcome.NOT_WARMED)
    now_ms, made = gateway.redis_clock.now_ms(), gateway.pages.lists
    known = made.get(language)
    if known is None or now_ms >= known[0]:
        known = made[language] = (now_ms + LIST_MADE_EACH_MS, _list_html(gateway, language))
    return cached(request, known[1], LIST_MAX_AGE_S)


async def campaign_page(request: Request[State]) -> Response:
    """GET /c/{campaign_id}: where a buyer waits, grabs, and sees his coupon."""
    gateway = request.state["gateway"]
    language = language_of(request.query_params.get("lang"))
    campaign = gateway.catalogue.get(request.path_params["campaign_id"])
    if campaign is None:
        return refused(language, Outcome.CAMPAIGN_NOT_FOUND)
    state = campaign.state
    if state is None:
        return refused(language, Outcome.NOT_WARMED)
    made = gateway.pages.of.setdefault(campaign, {})
    page = made.get(language)
    if page is None or page[0] is not state:
        page = made[language] = (state, _campaign_html(gateway, campaign, state, language))
    return cached(request, page[1], PAGE_MAX_AGE_S)


def language_of(asked: str | None) -> str:
    """One of ours. A cached page can't hang on Accept-Language; its script turns it."""
    return asked if asked in LANGUAGES else LANGUAGES[0]


def offer(rule: Mapping[str, Any], language: str) -> str:
    """What a coupon is worth, in words; "" for a kind that this release does not know."""
    if rule.get("kind") != "amount_off":
        return ""
    words, threshold = WORDS[language], rule.get("threshold", 0)
    text = words["offer" if threshold else "offer.any"]
    return text.replace("{amount}", money(rule["amount"])).replace("{threshold}", money(threshold))


def money(cents: int) -> str:
    """2050 as 20.50, 2000 as 20; a campaign names no currency."""
    whole, rest = divmod(cents, 100)
    return f"{whole:,}.{rest:02}" if rest else f"{whole:,}"


def cached(request: Request[State], page: Html, max_age_s: int) -> Response:
    """A page that anybody may keep for a while, 304 where it is still the same."""
    headers = {"ETag": page.tag, "Cache-Control": f"public, max-age={max_age_s}", **SAFE}
    given = request.headers.get("if-none-match", "").split(",")
    if page.tag in [tag.strip().removeprefix("W/") for tag in given]:
        return Response(status_code=304, headers=headers)
    return Response(page.body, 200, headers, HTML)


def refused(language: str, outcome: Outcome, more: str = "") -> Response:
    """A page that says why there is none; `more` is HTML of ours below it."""
    words = WORDS[language]
    values = {"title": words[outcome.name], "text": words[f"{outcome.name}.text"], "more": more}
    headers = {"Cache-Control": f"public, max-age={REFUSED_MAX_AGE_S}", **SAFE}
    if outcome.value.retry_after_ms:
        headers |= {"Cache-Control": "no-store", "Retry-After": "1"}
    return Response(fill("said", language, values), outcome.value.status, headers, HTML)


def _listed(gateway: Gateway) -> list[Campaign]:
    """Those on the first page; who has a link finds the others."""
    now_ms = gateway.redis_clock.now_ms()
    found = [
        campaign
        for campaign in gateway.catalogue
        if campaign.state is not None
        and campaign.state.status != "OFFLINE"
        and campaign.state.definition.get("audience", "all") == "all"
        and campaign.ends_at > now_ms - LISTED_AFTER_MS
    ]
    found.sort(key=lambda c: (c.ends_at <= now_ms, c.next_opens_at(now_ms) or 0, c.campaign_id))
    return found[:LISTED_MAX]


def _row(campaign: Campaign, language: str) -> str:
    state = campaign.state
    assert state is not None
    href = f"/c/{campaign.campaign_id}" + (f"?lang={language}" if language != "en" else "")
    opens_at = to_rfc3339(state.rounds[0].opens_at)
    return (
        f'<li data-campaign="{escape(campaign.campaign_id)}"><a href="{escape(href)}">'
        f"<strong>{escape(state.definition['name'])}</strong>"
        f"<span>{escape(offer(state.definition['rule'], language))}</span>"
        f'<span class="status"><time datetime="{opens_at}">{_plain_time(opens_at)}</time></span>'
        "</a></li>"
    )


def _list_html(gateway: Gateway, language: str) -> Html:
    rows = "".join(_row(campaign, language) for campaign in _listed(gateway))
    none = WORDS[language]["home.none"]
    listed = f'<ul class="list">{rows}</ul>' if rows else f"<p>{escape(none)}</p>"
    return html(fill("home", language, {"rows": listed}))


def _campaign_html(
    gateway: Gateway, campaign: Campaign, state: CampaignState, language: str
) -> Html:
    opens_at = to_rfc3339(state.rounds[0].opens_at)
    values = {
        "id": campaign.campaign_id,
        "name": state.definition["name"],
        "offer": offer(state.definition["rule"], language),
        "demo": "1" if gateway.demo else "",
        "origins": " ".join(gateway.page_origins),
        "opens_at": opens_at,
        "opens": _plain_time(opens_at),
    }
    values["plain"] = fill("plain-demo" if gateway.demo else "plain", language, values)
    return html(fill("campaign", language, values))


def _plain_time(text: str) -> str:
    """A time of RFC 3339 for people without JavaScript."""
    return f"{text[:10]} {text[11:19]} UTC"


PAGES = [
    Route("/", first_page, methods=["GET"]),
    Route("/c/{campaign_id}", campaign_page, methods=["GET"]),
    Route("/static/{version}/{name}", static_file, methods=["GET"]),
]
