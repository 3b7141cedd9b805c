"""What the gateway tells /docs and /problems of itself."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request

from flashgrab.docs.routes import Documented, routes
from flashgrab.ids import is_campaign_id
from flashgrab.outcomes import Outcome
from gateway.gateway import Gateway, State
from gateway.replies import problem

SHOWN_MAX = 50
"""Campaigns to choose from on /docs."""
NO_CAMPAIGN = "your-campaign"
RANK = ("CLAIMABLE", "NOT_STARTED", "PAUSED", "SOLD_OUT", "ENDED", "OFFLINE")
WORDS = (
    (
        "A buyer needs two calls: one for a pass, before the opening, and one to grab. The programs"
        " below are for the campaign `{campaign}`, and run as they stand here."
    ),
    (
        "A refusal is `application/problem+json`: look at `code`. After 429, 503 and no answer,"
        " repeat with the same `Idempotency-Key` when `retry_after_ms` is over; that never gets a"
        " second coupon. 409 ENDED, OFFLINE and USER_LIMIT stay as they are; after SOLD_OUT the"
        " same key may win later, when coupons are added or come back."
    ),
)


def _codes() -> frozenset[str]:
    return frozenset(outcome.name for outcome in Outcome if outcome.value.status >= 400)


def _example(code: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    body: dict[str, Any] = orjson.loads(bytes(problem(Outcome[code], **fields).body))
    return body


async def _integrate(request: Request[State]) -> str:
    gateway = request.state["gateway"]
    campaigns = _campaigns(gateway)
    asked = request.query_params.get("campaign", "")
    chosen = next(iter(campaigns), (NO_CAMPAIGN, ""))[0]
    if is_campaign_id(asked) and gateway.catalogue.get(asked) is not None:
        chosen = asked
    host, scheme = request.headers.get("host", ""), request.url.scheme
    return await asyncio.to_thread(_rendered, scheme, host, campaigns, chosen, gateway.demo)


def _campaigns(gateway: Gateway) -> list[tuple[str, str]]:
    """Id and name, those that grant or will grant first."""
    now_ms = gateway.redis_clock.now_ms()
    known = [c for c in gateway.catalogue if c.state is not None]
    known.sort(key=lambda c: (RANK.index(c.status(now_ms)), c.campaign_id))
    return [(c.campaign_id, str(c.state.definition["name"])) for c in known[:SHOWN_MAX] if c.state]


def _rendered(
    scheme: str, host: str, campaigns: list[tuple[str, str]], chosen: str, demo: bool
) -> str:
    from flashgrab.docs import snippets

    base = snippets.base_of(scheme, host, "http://127.0.0.1:8000")
    programs = snippets.filled(snippets.GATEWAY, base, chosen, demo=demo)
    words = [words.format(campaign=chosen) for words in WORDS]
    return snippets.integrate(programs, base, words, campaigns, chosen)


ROUTES = routes(Documented("gateway", _codes, _example, _integrate))
