"""POST /v1/campaigns/{campaign_id}/passes: who may grab is decided here, before the opening, so
that the opening second pays for nothing but the check of a pass."""

from starlette.requests import Request
from starlette.responses import Response

from flashgrab.clock import to_rfc3339
from flashgrab.ids import is_campaign_id, is_device_id
from flashgrab.limits import NOWHERE
from flashgrab.model import AFTER_END_MS
from flashgrab.outcomes import Outcome
from flashgrab.passes import issue
from gateway.audience import claim_of, is_blocked, outside
from gateway.campaigns import Campaign
from gateway.gateway import State
from gateway.ratelimit import REFUSED, ROOM, noted, refusal
from gateway.replies import json_reply, problem
from gateway.requests import CLOCKS_DIFFER, bad_body, bearer


async def issue_pass(request: Request[State]) -> Response:
    """POST /v1/campaigns/{campaign_id}/passes: an identity token for a pass."""
    gateway = request.state["gateway"]
    campaign_id = request.path_params["campaign_id"]
    device_id = request.headers.get("x-device-id")
    if wrong := await _wrong_form(request, campaign_id, device_id):
        return wrong
    device_id = device_id or ""
    if not gateway.identity.has_keys:
        detail = "No identity is configured here: set FLASHGRAB_IDENTITY_KEY or _JWKS."
        return problem(Outcome.BACKEND_UNAVAILABLE, detail=detail)
    if not gateway.redis_clock.trusted:
        return problem(Outcome.BACKEND_UNAVAILABLE, detail=CLOCKS_DIFFER)
    token = bearer(request.headers.get("authorization", "").encode("latin-1"))
    user_id = gateway.identity.check(token) if token else None
    if user_id is None:
        return problem(Outcome.IDENTITY_INVALID)
    if is_blocked(gateway, request, user_id, device_id):
        return problem(Outcome.BLOCKED)
    campaign = gateway.catalogue.get(campaign_id)
    if campaign is None:
        return problem(Outcome.CAMPAIGN_NOT_FOUND)
    verdict, limits = ROOM, campaign.pass_limits
    if limits is not None:
        user = user_id.encode()
        verdict = await gateway.limiter.check(limits, user, b"", NOWHERE)
        if verdict.left == REFUSED:
            return refusal(verdict)
    expires_ms, now_ms = campaign.ends_at + AFTER_END_MS, gateway.clock.now_ms()
    if unfit := _unfit(request, campaign, user_id, device_id, expires_ms):
        return unfit
    if no := await gateway.guard.refusal(request, campaign, user_id, token, now_ms):
        return no
    body = {
        "pass": issue(gateway.pass_keys, campaign_id, user_id, device_id, expires_ms),
        "campaign_id": campaign_id,
        "not_before": to_rfc3339(gateway.clock.now_ms()),
        "expires_at": to_rfc3339(expires_ms),
    }
    response = json_reply(body, 201, {"Cache-Control": "no-store"})
    return noted(response, verdict)


async def _wrong_form(
    request: Request[State], campaign_id: str, device_id: str | None
) -> Response | None:
    """What is refused before anybody is looked at."""
    if bad := await bad_body(request):
        return problem(bad, detail="Asking for a pass takes an empty body.")
    if not is_campaign_id(campaign_id):
        return problem(Outcome.INVALID_REQUEST, detail="Not a campaign id.")
    if device_id is not None and not is_device_id(device_id):
        detail = "X-Device-Id is 1 to 64 characters of A-Z a-z 0-9 . _ ~ @ -"
        return problem(Outcome.INVALID_REQUEST, detail=detail)
    return None


def _unfit(
    request: Request[State], campaign: Campaign, user_id: str, device_id: str, expires_ms: int
) -> Response | None:
    """What the campaign has against it; whom it is for comes last, which may be a look-up."""
    gateway = request.state["gateway"]
    if campaign.state is None:
        return problem(Outcome.BACKEND_UNAVAILABLE)
    if campaign.state.per_device and not device_id:
        detail = "This campaign limits devices: send X-Device-Id."
        return problem(Outcome.INVALID_REQUEST, detail=detail)
    if expires_ms <= gateway.clock.now_ms():
        return problem(Outcome.ENDED)
    return outside(gateway, campaign, user_id, claim_of(request))
