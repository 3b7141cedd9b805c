"""Refusing from memory, without lying (design.md): what needs no Redis command, and what does.

A stranger (in no filter of holders) is told what the campaign's gate says. Somebody who may hold
something is asked about once; what the script said of him stands as long as epoch and generation
do. Everything here has a bound; past it the script is asked.
"""

import asyncio
from itertools import islice
from typing import NamedTuple

from flashgrab.outcomes import Outcome
from flashgrab.store import Store
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant, Reply
from gateway.gate import gate_of
from gateway.holders import LOADS_MAX, Holders

KNOWN_MAX = 100_000
"""People whom the script was asked about, in one process; the oldest are forgotten first."""
FORGET_EACH = 1000
LIMITS = (Outcome.USER_LIMIT, Outcome.DEVICE_LIMIT)


class Known(NamedTuple):
    """What the script said of one person, in one epoch and generation.

    `limit`: USER_LIMIT or DEVICE_LIMIT, which holds for every key of his. `refused`: the request id
    that was refused otherwise, good as long as nobody was granted anything since `seq`.
    """

    epoch: int
    generation: int
    grants: tuple[Grant, ...]
    limit: Outcome | None
    refused: bytes
    seq: int


class Memory:
    """What one process knows about people, over all campaigns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[bytes, Known] = {}
        self._holders: dict[str, Holders] = {}
        self._slots = asyncio.Semaphore(LOADS_MAX)

    async def stop(self) -> None:
        for holders in self._holders.values():
            await holders.stop()

    def decide(
        self, campaign: Campaign, user: bytes, device: bytes, request_id: bytes, now_ms: int
    ) -> Decision | None:
        """The decision on a grab, or None: the script has to be asked.

        `now_ms` is Redis' time. Only after the pass is checked.
        """
        gate = campaign.gate
        if gate is None or now_ms >= gate.until_ms:
            gate = gate_of(campaign, now_ms)
        if gate.ask:
            return None
        if not self._known and gate.outcome is None:
            return None
        known = self._known.get(_name(campaign, user, device))
        if known is not None and self._stands(campaign, known):
            for grant in known.grants:
                if grant.request_id.encode() == request_id:
                    return Decision(Outcome.REPLAYED, (grant,), now_ms)
            if known.limit is not None and gate.outcome in (None, Outcome.SOLD_OUT):
                return Decision(known.limit, known.grants, now_ms)
            refused = known.refused == request_id and known.seq == campaign.floor
            if gate.outcome and (refused or known.limit is Outcome.USER_LIMIT):
                return Decision(gate.outcome, (), now_ms)
            return None
        if gate.outcome is None:
            return None
        if self._holders_of(campaign).are_strangers(user, device):
            return Decision(gate.outcome, (), now_ms)
        return None

    def learn(
        self,
        campaign: Campaign,
        user: bytes,
        device: bytes,
        request_id: bytes,
        decision: Decision,
        reply: Reply,
    ) -> None:
        """What the script said of somebody, unless it granted: most are never seen again."""
        state = campaign.state
        if state is None or (reply.epoch, reply.generation) != (state.epoch, state.generation):
            return
        grants, outcome = decision.grants, decision.outcome
        limit: Outcome | None = outcome if outcome in LIMITS else None
        refused = b"" if limit or grants else request_id
        name = _name(campaign, user, device)
        before = self._known.get(name)
        if before is not None and self._stands(campaign, before):
            grants = grants if limit is Outcome.USER_LIMIT else before.grants + grants
            limit, refused = limit or before.limit, refused or before.refused
        elif len(self._known) >= KNOWN_MAX:
            for oldest in list(islice(self._known, FORGET_EACH)):
                del self._known[oldest]
        self._known[name] = Known(reply.epoch, reply.generation, grants, limit, refused, reply.seq)

    def _stands(self, campaign: Campaign, known: Known) -> bool:
        state = campaign.state
        return (
            state is not None
            and known.epoch == state.epoch
            and known.generation == state.generation
        )

    def _holders_of(self, campaign: Campaign) -> Holders:
        found = self._holders.get(campaign.campaign_id)
        if found is None:
            found = Holders(campaign, self._store, self._slots)
            self._holders[campaign.campaign_id] = found
        return found


def _name(campaign: Campaign, user: bytes, device: bytes) -> bytes:
    return b"%b/%b/%b" % (campaign.name, user, device)
