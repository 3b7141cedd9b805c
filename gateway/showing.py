"""What became of grabs: for their owner, and for the shop's own backend.

Both read Redis by the user: holders are kept by user (lua/README.md), and a search for a serial
would walk all of them. So the shop says whose grab it means.
"""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from flashgrab import keys
from flashgrab.errors import StoreUnavailable
from flashgrab.ids import grab_id, is_campaign_id, is_user_id, split_grab_id
from flashgrab.outcomes import Outcome
from flashgrab.receipts import Receipt
from gateway.campaigns import Campaign
from gateway.decisions import Grant, read_grants
from gateway.gateway import Gateway, State
from gateway.replies import grant_state, json_reply, problem
from gateway.requests import CLOCKS_DIFFER, bearer

NO_STORE = {"Cache-Control": "no-store"}
FORM = "1 to 64 characters of A-Z a-z 0-9 . _ ~ @ -"
WHOSE = f"The shop's token needs ?user=ID, the grab's owner: {FORM}"


async def show_grab(request: Request[State]) -> Response:
    """GET /v1/grabs/{grab_id}: what became of a grab, for its owner and for the shop."""
    gateway = request.state["gateway"]
    named = split_grab_id(request.path_params["grab_id"])
    if not gateway.redis_clock.trusted:
        return problem(Outcome.BACKEND_UNAVAILABLE, detail=CLOCKS_DIFFER)
    token = bearer(request.headers.get("authorization", "").encode("latin-1"))
    who = gateway.pass_keys.check(token, gateway.clock.now_ms()) if token else None
    is_shop = who is None and gateway.shop_tokens.check(token) is not None
    if is_shop:
        user_id = _one(request, "user")
        if not is_user_id(user_id):
            return problem(Outcome.INVALID_REQUEST, detail=WHOSE)
    elif who is not None:
        user_id = who.user_id
    elif not token or not (user_id := gateway.identity.check(token) or ""):
        return problem(Outcome.PASS_INVALID)
    campaign = gateway.catalogue.get(named[0]) if named else None
    if named is None or campaign is None or (who and who.campaign_id != named[0]):
        return problem(Outcome.GRAB_NOT_FOUND)
    try:
        async with asyncio.timeout(gateway.bounds.deadline_ms / 1000), gateway.reads:
            held = read_grants(await gateway.store.holder(named[0], user_id))
            found = tuple(grant for grant in held if grant.serial == named[1])
            told = await _told(gateway, campaign, user_id, found)
    except TimeoutError:
        raise StoreUnavailable("Redis did not say in time who holds what") from None
    grant = next((grant for grant in told if grant.serial == named[1]), None)
    if grant is not None:
        body = _body(campaign, named[0], grant)
        if gateway.receipt_keys and not is_shop:
            body["receipt"] = _receipt(gateway, body, user_id)
        return json_reply(body, headers=NO_STORE)
    if not _may_deny(gateway, campaign):
        return problem(Outcome.NOT_WARMED)
    return problem(Outcome.GRAB_NOT_FOUND)


async def list_grabs(request: Request[State]) -> Response:
    """GET /v1/grabs?user=ID[&campaign=ID]: all grants of a user, for the shop's own backend."""
    gateway = request.state["gateway"]
    token = bearer(request.headers.get("authorization", "").encode("latin-1"))
    if gateway.shop_tokens.check(token) is None:
        detail = "This is for the shop's own backend: FLASHGRAB_SHOP_TOKENS names its tokens."
        return problem(Outcome.IDENTITY_INVALID, detail=detail)
    user_id, campaign_id = _one(request, "user"), _one(request, "campaign")
    if not is_user_id(user_id):
        return problem(Outcome.INVALID_REQUEST, detail=f"Expected one user=ID, {FORM}")
    if "campaign" in request.query_params and not is_campaign_id(campaign_id):
        return problem(Outcome.INVALID_REQUEST, detail="Expected one campaign=ID.")
    if not gateway.redis_clock.trusted:
        return problem(Outcome.BACKEND_UNAVAILABLE, detail=CLOCKS_DIFFER)
    if not gateway.catalogue.loaded:
        return problem(Outcome.NOT_WARMED)
    named = gateway.catalogue.get(campaign_id) if campaign_id else None
    if campaign_id and named is None:
        return problem(Outcome.CAMPAIGN_NOT_FOUND)
    campaigns = [named] if named else list(gateway.catalogue)
    try:
        async with asyncio.timeout(gateway.bounds.deadline_ms / 1000), gateway.reads:
            held = await _held(gateway, user_id, campaigns)
    except TimeoutError:
        raise StoreUnavailable("Redis did not say in time who holds what") from None
    # Silence about a campaign that this server may have forgotten would be a lie.
    unknown = [c.campaign_id for c in campaigns if not held[c] and not _may_deny(gateway, c)]
    if named and unknown:
        return problem(Outcome.NOT_WARMED)
    grabs = [
        {**_body(c, c.campaign_id, grant), "campaign_id": c.campaign_id}
        for c in campaigns
        for grant in held[c]
    ]
    body = {"user_id": user_id, "grabs": grabs, "not_warmed": unknown}
    return json_reply(body, headers=NO_STORE)


async def receipt_keys(request: Request[State]) -> Response:
    """GET /v1/receipt-keys: the public keys of receipts, as a JWKS."""
    body = request.state["gateway"].receipt_keys.jwks()
    return json_reply(body, headers={"Cache-Control": "public, max-age=300"})


async def _held(
    gateway: Gateway, user_id: str, campaigns: list[Campaign]
) -> dict[Campaign, tuple[Grant, ...]]:
    """What a user holds or held in each of them."""
    entries = await gateway.store.entries_of(user_id, [c.campaign_id for c in campaigns])
    return {
        campaign: await _told(gateway, campaign, user_id, read_grants(entry))
        for campaign, entry in zip(campaigns, entries, strict=True)
    }


async def _told(
    gateway: Gateway, campaign: Campaign, user_id: str, grants: tuple[Grant, ...]
) -> tuple[Grant, ...]:
    """Grants of a user as they may be told. What the ledger has can be shown; where a campaign
    waits for a replica, what it has not only when a replica has it (then with all his others)."""
    waits = campaign.state is not None and campaign.state.waits_for_replica
    if not waits or all(grant.seq <= campaign.watermark for grant in grants):
        return grants
    gateway.replica.start()
    key, within_ms = keys.holders(campaign.campaign_id), gateway.bounds.deadline_ms
    entry = await gateway.replica.read(within_ms, "HGET", key, user_id)
    return read_grants((entry or b"").decode())


def _may_deny(gateway: Gateway, campaign: Campaign) -> bool:
    """Whether what is not found is not there: another server may know less than was granted."""
    state = campaign.state
    return not campaign.missing and state is not None and state.run == gateway.wire.run_id


def _body(campaign: Campaign, campaign_id: str, grant: Grant) -> dict[str, Any]:
    return {
        "grab_id": grab_id(campaign_id, grant.serial),
        "state": grant_state(campaign, grant),
        "serial": grant.serial,
        "round": grant.round,
    }


def _receipt(gateway: Gateway, body: dict[str, Any], user_id: str) -> str:
    at_s = gateway.clock.now_ms() // 1000
    return gateway.receipt_keys.sign(Receipt(user_id=user_id, at_s=at_s, **body))


def _one(request: Request[State], name: str) -> str:
    """A parameter of the query that is there once, else ""."""
    values = request.query_params.getlist(name)
    return values[0] if len(values) == 1 else ""
