"""Who may have a pass of a campaign: nobody who is blocked, and its audience only."""

from starlette.requests import Request
from starlette.responses import Response

from flashgrab.outcomes import Outcome
from gateway.address import host_of
from gateway.campaigns import Campaign
from gateway.gateway import Gateway, State
from gateway.replies import problem

NOT_HERE = "The list of those whom this campaign is for is not here yet; try again."
NOT_KNOWN = "This gateway does not know the campaign's kind of audience."


def is_blocked(gateway: Gateway, request: Request[State], user_id: str, device_id: str) -> bool:
    """Whether user, device or address of a request is blocked."""
    blocklist, now_ms = gateway.lists.blocklist, gateway.redis_clock.now_ms()
    if blocklist.stops(user_id.encode(), device_id.encode(), now_ms):
        return True
    return blocklist.stops_address(host_of(request.client), now_ms)


def claim_of(request: Request[State]) -> str:
    """The token of a claim link, "" without one."""
    return request.headers.get("x-claim") or request.query_params.get("claim", "")


def outside(gateway: Gateway, campaign: Campaign, user_id: str, claim: str) -> Response | None:
    """The refusal of somebody whom a campaign is not for, None for its audience.

    What can't be judged is refused too, for a while: a list that is not loaded yet, or one of
    another key.
    """
    assert campaign.state is not None
    audience = campaign.state.definition.get("audience", "all")
    if audience == "all":
        return None
    if audience == "links":
        now_ms = gateway.clock.now_ms()
        admitted = gateway.link_keys.admits(claim, campaign.campaign_id, user_id, now_ms)
    elif audience == "segment":
        found = gateway.lists.holds(campaign.campaign_id, user_id)
        if found is None:
            return problem(Outcome.BACKEND_UNAVAILABLE, detail=NOT_HERE)
        admitted = found
    else:  # of a newer release
        return problem(Outcome.BACKEND_UNAVAILABLE, detail=NOT_KNOWN)
    return None if admitted else problem(Outcome.NOT_IN_AUDIENCE)
