"""What one gateway process is made of, as lane and routes get it."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from flashgrab.blocks import Blocklist
from flashgrab.clock import Clock
from flashgrab.links import LinkKeys
from flashgrab.outcomes import Outcome
from flashgrab.passes import PassKeys
from flashgrab.receipts import ReceiptKeys
from flashgrab.replica import Replica
from flashgrab.shop_tokens import ShopTokens
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from flashgrab.wire import Calls, Wire
from gateway.batch import Batcher
from gateway.call import Bounds
from gateway.campaigns import Campaign, Catalogue
from gateway.desk import Desk
from gateway.doors import Doors
from gateway.guard import Guard
from gateway.identity import Identity
from gateway.limiter import Limiter
from gateway.listed import Listed
from gateway.lists import Lists
from gateway.memory import Memory
from gateway.pace import Pace
from gateway.page_files import Pages
from gateway.ratelimit import Verdict
from gateway.ready import Ready
from gateway.redis_clock import RedisClock
from gateway.replicated import Replicated
from gateway.tallies import Tallies

READS_MAX = 32
"""Grabs that are looked up in Redis at once; more wait their turn, no longer than their deadline.
Redis' client has 100 connections and refuses beyond, the gateway's own look at campaigns too."""


@dataclass
class Gateway:
    """Everything that the routes work with; one a process."""

    bounds: Bounds
    pass_keys: PassKeys
    link_keys: LinkKeys
    identity: Identity
    shop_tokens: ShopTokens
    receipt_keys: ReceiptKeys
    demo: bool
    clock: Clock
    redis_clock: RedisClock
    store: Store
    wire: Wire
    replica: Replica
    catalogue: Catalogue
    metrics: Metrics
    memory: Memory
    desk: Desk
    ready: Ready
    limiter: Limiter
    guard: Guard
    lists: Lists
    doors: Doors
    pace: Pace
    pages: Pages = field(default_factory=Pages)
    listed: Listed = field(default_factory=Listed)
    page_origins: Sequence[str] = ()
    """Whose pages may open the buyer's page and tell it who the buyer is."""
    make_batcher: "Callable[[Campaign, Calls, RedisClock, Bounds, Metrics, Memory], Batcher]" = (
        Batcher
    )
    """Another where grabs are traced (gateway/traced.py)."""
    blocked: Blocklist | None = None
    """Whom passes of before do not help; None where nobody is: a grab pays one look at this."""
    batchers: dict[str, Batcher] = field(default_factory=dict)
    reads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(READS_MAX))

    def __post_init__(self) -> None:
        self.unknown = Tallies("unknown", self.metrics)
        self.lists.on_blocklist = self._block

    def _block(self, blocklist: Blocklist) -> None:
        self.blocked = blocklist if blocklist.has_people else None

    def in_flight(self) -> int:
        """Grabs that wait for the script, or for a place in its next call, or for their limits."""
        waiting = sum(batcher.requests for batcher in list(self.batchers.values()))
        return waiting + self.limiter.waiting

    def count_local(self, campaign: Campaign | None, outcome: Outcome) -> None:
        """An answer that cost no Redis command."""
        (self.unknown if campaign is None else campaign.tallies)[outcome].count += 1

    def count_limited(self, campaign: Campaign, verdict: Verdict) -> None:
        """A grab that a rate limit has refused."""
        if verdict.is_local:
            self.count_local(campaign, Outcome.RATE_LIMITED)
        else:
            labels = (campaign.campaign_id, Outcome.RATE_LIMITED.name)
            self.metrics.add("flashgrab_grabs", labels)

    def batcher(self, campaign: Campaign) -> Batcher:
        found = self.batchers.get(campaign.campaign_id)
        if found is None:
            wire: Calls = self.wire
            if campaign.state is not None and campaign.state.waits_for_replica:
                self.replica.start()
                wire = Replicated(campaign, self.wire, self.replica)
            found = self.make_batcher(
                campaign, wire, self.redis_clock, self.bounds, self.metrics, self.memory
            )
            self.batchers[campaign.campaign_id] = found
        return found


class State(TypedDict):
    """Typed lifespan state."""

    gateway: Gateway
