"""The public state of campaigns: what the buyer's page asks for while it waits."""

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from flashgrab.outcomes import Outcome
from gateway.gateway import State
from gateway.listed import Shown, shown
from gateway.replies import JSON, campaign_body, problem


async def list_campaigns(request: Request[State]) -> Response:
    """GET /v1/campaigns: the public state of every campaign."""
    gateway = request.state["gateway"]
    now_ms = gateway.redis_clock.now_ms()
    return _cached(request, gateway.listed.of(gateway.catalogue, now_ms), now_ms)


async def show_campaign(request: Request[State]) -> Response:
    """GET /v1/campaigns/{campaign_id}: the public state of one campaign."""
    gateway = request.state["gateway"]
    campaign = gateway.catalogue.get(request.path_params["campaign_id"])
    if campaign is None:
        return problem(Outcome.CAMPAIGN_NOT_FOUND)
    if campaign.state is None:
        return problem(Outcome.NOT_WARMED)
    now_ms = gateway.redis_clock.now_ms()
    stamp = gateway.guard.stamp(campaign.campaign_id, gateway.clock.now_ms())
    more = {"page_stamp": stamp} if stamp else {}
    return _cached(request, shown(campaign_body(campaign, now_ms), now_ms), now_ms, more)


def _cached(
    request: Request[State], found: Shown, now_ms: int, more: Mapping[str, str] | None = None
) -> Response:
    headers = {"ETag": found.tag, "Cache-Control": "public, max-age=1"}
    given = request.headers.get("if-none-match", "").split(",")
    wanted = [t.strip().removeprefix("W/") for t in given]  # the weak comparison of RFC 9110
    if found.tag.removeprefix("W/") in wanted or "*" in wanted:
        return Response(status_code=304, headers=headers)
    return Response(found.at(now_ms, more), 200, headers, JSON)
