"""Refusing from memory, without lying (design.md): what needs no Redis command, and what does.

A stranger (in no filter of holders) is told what the campaign's gate says. Somebody who may hold
something is asked about once; what the script said of him stands as long as epoch and generation
do. Everything here has a bound; past it the script is asked.
"""

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from flashgrab.outcomes import Outcome
from flashgrab.store import Store
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Reply
from gateway.gate import gate_of
from gateway.holders import LOADS_MAX, Holders

KNOWN_MAX = 100_000
"""People whom the script was asked about, in one process; the oldest are forgotten first."""
FORGET_EACH = 1000


class Known(NamedTuple):
    """What the script said of one person, in one epoch and generation.

    `replays`: what is answered to the keys of his grants. `limit`: USER_LIMIT, which names all his
    grants and holds for every other key. `refused`: the request id that was refused otherwise, and
    how; good as long as nobody was granted anything since `seq`, for that may have been he, and
    under this very key.
    """

    epoch: int
    generation: int
    replays: tuple[Decision, ...]
    limit: Decision | None
    refused: tuple[bytes, Outcome] | None
    seq: int


@dataclass(slots=True)
class Shut:
    """What strangers are told while nothing can be granted; stands until `until_ms` (Redis' time)
    or until anything is heard of the campaign. By far most refusals are these."""

    until_ms: int
    run: str
    bits: bytearray  # of the holders' filter, and its mask
    mask: int
    refusal: Decision
    at_ms: int  # of the refusal: one object for a millisecond


class Memory:
    """What one process knows about people, over all campaigns."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[bytes, Known] = {}
        self._holders: dict[Campaign, Holders] = {}
        self._slots = asyncio.Semaphore(LOADS_MAX)

    async def stop(self) -> None:
        for holders in self._holders.values():
            await holders.stop()

    def decide(
        self,
        campaign: Campaign,
        run: str,
        user: bytes,
        device: bytes,
        request_id: bytes,
        now_ms: int,
    ) -> Decision | None:
        """The decision on a grab, or None: the script has to be asked.

        `run` is that of the connected server: another one may answer otherwise. `now_ms` is Redis'
        time. Only after the pass is checked.
        """
        shut = campaign.shut
        if shut is not None and now_ms < shut.until_ms and run == shut.run:
            h = hash(user)  # Filter.may_hold(), its first look: nine in ten need no more
            if not shut.bits[(h & shut.mask) >> 3] & 1 << (h & 7):
                if shut.at_ms != now_ms:
                    shut.refusal, shut.at_ms = Decision(shut.refusal.outcome, (), now_ms), now_ms
                return shut.refusal
            again = self._again(campaign, shut.refusal.outcome, user, device, request_id, now_ms)
            if again is not None:
                return again
        return self._look(campaign, run, user, device, request_id, now_ms)

    def _look(
        self,
        campaign: Campaign,
        run: str,
        user: bytes,
        device: bytes,
        request_id: bytes,
        now_ms: int,
    ) -> Decision | None:
        """decide() from all that is known, where there is no Shut, or one that does not say."""
        state = campaign.state
        if state is None or state.run != run:
            return None
        gate = gate_of(campaign, now_ms)
        if gate.outcome is not None:
            holders = self._holders.get(campaign) or self._holders_of(campaign)
            refusal, found = Decision(gate.outcome, (), now_ms), holders.complete()
            limited = device and state.per_device
            if found is not None:
                if not state.per_device:
                    bits, mask = found.bits, found.mask
                    campaign.shut = Shut(gate.until_ms, run, bits, mask, refusal, now_ms)
                if not found.may_hold(user) and not (limited and found.may_hold(b"/" + device)):
                    return refusal
        elif gate.ask or not self._known:
            return None
        return self._again(campaign, gate.outcome, user, device, request_id, now_ms)

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
        limit = decision if outcome is Outcome.USER_LIMIT else None
        about_him = not grants and outcome is not Outcome.BUSY
        refused = (request_id, outcome) if about_him else None
        replays = tuple(Decision(Outcome.REPLAYED, (grant,), decision.at_ms) for grant in grants)
        name = b"/".join((campaign.name, user, device))
        before = self._known.get(name)
        if before is not None and self._stands(campaign, before):
            if limit is None:
                replays, limit = before.replays + replays, before.limit
            if refused is None and before.seq == reply.seq:
                refused = before.refused
        elif len(self._known) >= KNOWN_MAX:
            for oldest in list(islice(self._known, FORGET_EACH)):
                del self._known[oldest]
        self._known[name] = Known(reply.epoch, reply.generation, replays, limit, refused, reply.seq)

    def _again(
        self,
        campaign: Campaign,
        closed: Outcome | None,
        user: bytes,
        device: bytes,
        request_id: bytes,
        now_ms: int,
    ) -> Decision | None:
        """The decision on a grab of somebody whom the script was asked about, if this one was;
        `closed`: what strangers are told."""
        known = self._known.get(b"/".join((campaign.name, user, device)))
        if known is None or not self._stands(campaign, known):
            return None
        for replay in known.replays:
            if replay.grants[0].request_id.encode() == request_id:
                return replay
        if known.limit is not None:
            if closed is None or closed is Outcome.SOLD_OUT:
                return known.limit
            return Decision(closed, (), now_ms)
        if known.refused is None or known.refused[0] != request_id or known.seq != campaign.floor:
            return None
        if known.refused[1] is Outcome.DEVICE_LIMIT and closed in (None, Outcome.SOLD_OUT):
            return Decision(Outcome.DEVICE_LIMIT, (), now_ms)
        return Decision(closed, (), now_ms) if closed else None

    def _stands(self, campaign: Campaign, known: Known) -> bool:
        state = campaign.state
        return (
            state is not None
            and known.epoch == state.epoch
            and known.generation == state.generation
        )

    def _holders_of(self, campaign: Campaign) -> Holders:
        made = self._holders[campaign] = Holders(campaign, self._store, self._slots)
        return made
