"""What a campaign says to somebody who holds nothing in it, as far as this process knows."""

from typing import NamedTuple

from flashgrab.outcomes import Outcome
from gateway.campaigns import Campaign, PublicStatus

EDGE_MS = 50
"""So near to an opening or an end only Redis' own clock knows on which side a grab falls."""


class Gate(NamedTuple):
    """Stands until the campaign's state changes or `until_ms` (Redis' time).

    `ask`: only the script knows. Otherwise `outcome`, or None where the round is open with stock.
    """

    until_ms: int
    ask: bool
    outcome: Outcome | None


HEARD_MS = 2000
"""What was heard longer ago may have changed; only an end is for ever."""

ASK_NOW = Gate(0, True, None)

OUTCOMES: dict[PublicStatus, Outcome | None] = {
    "OFFLINE": Outcome.OFFLINE,
    "ENDED": Outcome.ENDED,
    "PAUSED": Outcome.PAUSED,
    "NOT_STARTED": Outcome.NOT_STARTED,
    "SOLD_OUT": Outcome.SOLD_OUT,
    "CLAIMABLE": None,
}


def gate_of(campaign: Campaign, now_ms: int) -> Gate:
    """The gate of this moment, in the precedence of contract §2; cached at the campaign."""
    gate = campaign.gate
    if gate is None or now_ms >= gate.until_ms:
        gate = campaign.gate = _gate(campaign, now_ms)
    return gate


def _gate(campaign: Campaign, now_ms: int) -> Gate:
    state, found = campaign.state, campaign.current(now_ms)
    if state is None or found is None or campaign.missing or campaign.is_behind:
        return ASK_NOW
    edges = [edge for r in state.rounds for edge in (r.opens_at, r.closes_at)]
    near = [edge for edge in edges if abs(edge - now_ms) < EDGE_MS]
    if near:
        return Gate(min(near) + EDGE_MS, True, None)
    outcome = OUTCOMES[campaign.status(now_ms)]
    until_ms = min((edge for edge in edges if edge > now_ms), default=2**62) - EDGE_MS
    if outcome is not Outcome.ENDED and outcome is not Outcome.OFFLINE:
        until_ms = min(until_ms, campaign.heard_ms + HEARD_MS)
    # grants up to the last edge may have gone unheard: other gateways grant, too
    before = max((edge for edge in edges if edge <= now_ms), default=0)
    if now_ms >= until_ms or campaign.heard_ms < before + EDGE_MS:
        return ASK_NOW
    return Gate(until_ms, False, outcome)
