"""The campaigns as this process knows them: from the registry, the push, and every reply."""

import asyncio
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import structlog

from flashgrab.alarms import Alarms
from flashgrab.errors import FlashgrabError, StoreRefused
from flashgrab.limits import Policies, of_grabs, of_passes
from flashgrab.outcomes import Outcome
from flashgrab.scripts import READS
from flashgrab.state import CampaignState, OutboxStanding, RoundState
from flashgrab.store import Store
from flashgrab.tasks import end
from flashgrab.telemetry import Metrics
from gateway.tallies import Tallies

if TYPE_CHECKING:
    from gateway.gate import Gate
    from gateway.memory import Shut

REFRESH_MS = 800
"""Below the second of I10, so that the reading itself fits in."""
RESUBSCRIBE_MS = 200
SOLD_OUT_LATE_MS = 1000
PART = 100
"""Campaigns that are asked about in one go: more would hold up the grabs."""
OVER_MS = 60_000
ENDED_TURNS = 12
"""A campaign that ended over OVER_MS ago is looked at in one turn of so many: about 10 s."""

BEGUN = (
    Outcome.GRANTED,
    Outcome.REPLAYED,
    Outcome.SOLD_OUT,
    Outcome.USER_LIMIT,
    Outcome.NOT_STARTED,
    Outcome.RATE_LIMITED,
    Outcome.BUSY,
    Outcome.NOT_WARMED,
    Outcome.BACKEND_UNAVAILABLE,
)
"""What a sale is made of, and what alerts look for. A series costs a scrape some 10 us: so they
begin at 0 only where a sale is near, and of BEGUN_MAX campaigns at once; the others', and other
outcomes, when they are first counted."""
BEGUN_MS = 600_000
BEGUN_MAX = 64

NOT_READ = "unknown"
"""Stands in for all campaigns until they were read: NOT_WARMED, where a 404 might be a lie."""

READING = "campaigns"

PublicStatus = Literal["NOT_STARTED", "CLAIMABLE", "SOLD_OUT", "ENDED", "PAUSED", "OFFLINE"]

log = structlog.get_logger()


class Campaign:
    """One campaign. `floor` is the highest seq seen in its epoch; it never falls."""

    def __init__(self, campaign_id: str, metrics: Metrics | None = None) -> None:
        self.campaign_id = campaign_id
        self.tallies = Tallies(campaign_id, metrics or Metrics())  # of answers from memory
        self.name = campaign_id.encode()
        self.state: CampaignState | None = None
        self.missing = True
        self.floor = 0
        self.watermark = 0
        self.left: list[int] = []
        self.heard_ms = 0  # Redis' time when all this was so
        self.gate: Gate | None = None  # what gate.py made of it, until something changes
        self.shut: Shut | None = None  # likewise memory.py
        self.limits: Policies | None = None  # what a grab is counted against
        self.pass_limits: Policies | None = None  # what a request for a pass is
        self._limits: Any = None  # of the definition, which they are made of
        self.sold_out_at: dict[int, int] = {}  # round → Redis' time when its last coupon went
        self._seen = (0, 0, 0)

    def update(self, state: CampaignState | None, heard_ms: int = 0) -> None:
        """What Redis has now; None where the key is missing: refuse, keep what is known.

        An older state than the known one (a slower reading, older data put in place of the real
        ones) changes nothing: the script refuses what does not fit it.
        """
        self.gate = self.shut = None
        self.missing = state is None
        if state is None or (self.state is not None and _age(state) < _age(self.state)):
            return
        if self.state is None or state.epoch != self.state.epoch:
            self.floor = self.watermark = 0
            self._seen = (0, 0, 0)
            self.sold_out_at.clear()
        self.state = state
        self._limit_by(state.definition.get("limits"))
        for round_, before in zip(state.rounds, self.left, strict=False):
            self._note_sold_out(_age(state), round_.number, before, round_.left, heard_ms)
        self.hear(heard_ms)
        self.watermark = max(self.watermark, state.watermark)
        self._learn_left(_age(state), [r.left for r in state.rounds])

    def _limit_by(self, limits: Any) -> None:
        """The same objects as long as the limits are the same: counters hang on them."""
        if limits != self._limits:
            self._limits = limits
            self.limits = of_grabs(self.campaign_id, limits)
            self.pass_limits = of_passes(self.campaign_id, limits)

    def hear(self, heard_ms: int) -> None:
        """It is still so at this moment of Redis' clock."""
        self.heard_ms = max(self.heard_ms, heard_ms)
        self.gate = self.shut = None

    def learn(
        self, generation: int, seq: int, round_number: int, left: int, heard_ms: int = 0
    ) -> None:
        """What the reply of a script call said, in this epoch; an older one changes nothing."""
        state = self.state
        if state is None:
            return
        lefts = list(self.left)
        if round_number:
            seen, before = (state.epoch, generation, seq), lefts[round_number - 1]
            if not left or not before:
                self._note_sold_out(seen, round_number, before, left, heard_ms)
            lefts[round_number - 1] = left
        if (state.epoch, generation, seq) >= self._seen:
            self.hear(heard_ms)
        self._learn_left((state.epoch, generation, seq), lefts)

    def _note_sold_out(
        self, seen: tuple[int, int, int], number: int, before: int, left: int, at_ms: int
    ) -> None:
        """The moment when a round sold out, as this process saw it: of its own call exactly, of
        another gateway's up to SOLD_OUT_LATE_MS too late, and not at all where nobody looked."""
        if seen < self._seen:
            return
        if left:
            self.sold_out_at.pop(number, None)
        elif before and 0 < at_ms <= self.heard_ms + SOLD_OUT_LATE_MS:
            self.sold_out_at[number] = at_ms

    def saw(self, seq: int) -> None:
        """There is such a fact, in this epoch."""
        if seq > self.floor:
            self.floor, self.shut = seq, None

    def _learn_left(self, seen: tuple[int, int, int], left: list[int]) -> None:
        self.saw(seen[2])
        if seen >= self._seen:
            self._seen = seen
            self.left = left

    @property
    def is_behind(self) -> bool:
        """Whether a reply told of a younger generation than the state that was read."""
        return self.state is not None and self._seen[1] > self.state.generation

    def current(self, now_ms: int) -> tuple[RoundState, RoundState | None, int] | None:
        """The first round not over, the one after it, and the end of the one before (ms).

        After the last round it is the last one. None where the rounds are not known.
        """
        if self.state is None:
            return None
        rounds = self.state.rounds
        index = next((i for i, r in enumerate(rounds) if now_ms < r.closes_at), len(rounds) - 1)
        after_ms = rounds[index - 1].closes_at if index else 0
        following = rounds[index + 1] if index + 1 < len(rounds) else None
        return rounds[index], following, after_ms

    def next_opens_at(self, now_ms: int) -> int | None:
        """When the next round opens (ms); None where none follows."""
        rounds = self.state.rounds if self.state else ()
        return next((r.opens_at for r in rounds if r.opens_at > now_ms), None)

    @property
    def ends_at(self) -> int:
        """End of the last round (ms), 0 where unknown."""
        return self.state.rounds[-1].closes_at if self.state else 0

    def status(self, now_ms: int) -> PublicStatus:
        """The public status (contract §2), in the precedence of the outcomes."""
        found = self.current(now_ms)
        if self.state is None or found is None:
            return "OFFLINE"
        if self.state.status == "OFFLINE":
            return "OFFLINE"
        if now_ms >= self.ends_at:
            return "ENDED"
        if self.state.status == "PAUSED":
            return "PAUSED"
        round_ = found[0]
        if now_ms < round_.opens_at:
            return "NOT_STARTED"
        return "CLAIMABLE" if self.left[round_.number - 1] > 0 else "SOLD_OUT"


def _age(state: CampaignState) -> tuple[int, int, int]:
    """Of two states of a campaign, the one where this is greater is the younger."""
    return state.epoch, state.generation, state.seq


class SchemaUnknown(ValueError):
    """Its keys are in a form of another release."""


class Catalogue:
    """All campaigns of the registry; bounded by it, never by what requests name."""

    def __init__(self, store: Store, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._campaigns: dict[str, Campaign] = {}
        self._going: dict[str, Campaign] = {}  # without those that are over, and stay as they are
        self.by_name: dict[bytes, Campaign] = {}
        """By the bytes of their ids."""
        self._tasks: list[asyncio.Task[None]] = []
        self._unreadable: dict[str, Exception | None] = {}
        self._read_at: dict[str, OutboxStanding] = {}  # before the last reading that went well
        self._turn = 0
        self._begun: dict[str, int] = {}  # and when they end
        self._default: Campaign | None = Campaign(NOT_READ, metrics)

    @property
    def loaded(self) -> bool:
        """Whether all campaigns were read; before, an id that is not known may yet be one."""
        return self._default is None

    def get(self, campaign_id: str) -> Campaign | None:
        return self._campaigns.get(campaign_id, self._default)

    def named(self, name: bytes) -> Campaign | None:
        """The same by the bytes of the id."""
        return self.by_name.get(name, self._default)

    def __iter__(self) -> Iterator[Campaign]:
        return iter(list(self._campaigns.values()))

    def lefts(self) -> Iterator[tuple[str, int, int]]:
        """Campaign, round and left, as the last replies said; not of what is over and known."""
        for campaign in self._going.values():
            if campaign.state is not None:
                for round_, left in zip(campaign.state.rounds, campaign.left, strict=False):
                    yield campaign.campaign_id, round_.number, left

    def unreadable(self, campaign_id: str) -> Exception | None:
        """What is wrong with its keys, None where they can be read."""
        return self._unreadable.get(campaign_id)

    def start(self) -> None:
        refresh = _forever(self._refresh_all, REFRESH_MS, self._metrics.alarms)
        follow = _forever(self._follow, RESUBSCRIBE_MS, None)  # the other one says what is so
        self._tasks = [
            asyncio.create_task(refresh, name="refresh"),
            asyncio.create_task(follow, name="follow"),
        ]

    async def stop(self) -> None:
        await end(self._tasks)

    async def _refresh_all(self) -> None:
        """Read what has changed; what has ended, and can't change any more, only now and then."""
        self._turn += 1
        now_ms = await self._store.now_ms()
        self._begun = {name: end for name, end in self._begun.items() if end > now_ms}
        registry = await self._store.registry()
        for gone in self._campaigns.keys() - registry:
            if not self._campaigns[gone].missing:
                await self.refresh(gone, now_ms)
        for some in _in_parts(sorted(registry)):
            over = {c for c in some if self._is_over(c, now_ms)}
            for campaign_id in over:
                self._going.pop(campaign_id, None)
            due = some if self._turn % ENDED_TURNS == 0 else [c for c in some if c not in over]
            standings = await self._store.standings(due)
            for campaign_id in due:
                standing = standings.get(campaign_id)
                if standing is not None and standing == self._read_at.get(campaign_id):
                    self._campaigns[campaign_id].hear(now_ms)
                    self._begin(self._campaigns[campaign_id], now_ms)
                    continue
                self._read_at.pop(campaign_id, None)
                if await self.refresh(campaign_id, now_ms) and standing is not None:
                    self._read_at[campaign_id] = standing
        self._default = None

    def _is_over(self, campaign_id: str, now_ms: int) -> bool:
        campaign = self._campaigns.get(campaign_id)
        return campaign is not None and 0 < campaign.ends_at < now_ms - OVER_MS

    async def refresh(self, campaign_id: str, now_ms: int | None = None) -> bool:
        """Read one campaign anew; whether all of it is there. `now_ms` is Redis' time.

        Damaged keys, and those of a schema that this release does not know, are as missing ones:
        only this campaign refuses.
        """
        problem = None
        now_ms = await self._store.now_ms() if now_ms is None else now_ms
        try:
            state = _known(await self._store.read(campaign_id))
        except (StoreRefused, KeyError, ValueError) as error:
            state, problem = None, error
        self._unreadable[campaign_id] = problem
        campaign = self._campaigns.get(campaign_id) or Campaign(campaign_id, self._metrics)
        self._campaigns[campaign_id] = self.by_name[campaign.name] = campaign
        self._going[campaign_id] = campaign
        campaign.update(state, now_ms)
        self._show_left(campaign)
        self._begin(campaign, now_ms)
        return state is not None

    def _show_left(self, campaign: Campaign) -> None:
        """What is left of each round; of a campaign whose keys are gone nobody knows."""
        rounds = campaign.state.rounds if campaign.state else ()
        for round_, left in zip(rounds, campaign.left, strict=False):
            labels = (campaign.campaign_id, str(round_.number))
            if campaign.missing:
                self._metrics.drop("flashgrab_left", labels)
            else:
                self._metrics.set("flashgrab_left", labels, left)

    def _begin(self, campaign: Campaign, now_ms: int) -> None:
        """Its counters stand at 0 before its sale: see Spec.at_start."""
        name, state = campaign.campaign_id, campaign.state
        if state is None or name in self._begun or len(self._begun) >= BEGUN_MAX:
            return
        if state.rounds[0].opens_at - BEGUN_MS <= now_ms < campaign.ends_at:
            self._begun[name] = campaign.ends_at
            for outcome in BEGUN:
                self._metrics.add("flashgrab_grabs", (name, outcome.name), 0)

    async def _follow(self) -> None:
        async for campaign_id in self._store.changes():
            if campaign_id in self._campaigns or campaign_id in await self._store.registry():
                await self.refresh(campaign_id)


def _known(state: CampaignState | None) -> CampaignState | None:
    """Raises SchemaUnknown where this release does not know its schema, ValueError where a rate
    limit is none."""
    if state is not None and state.schema not in READS:
        raise SchemaUnknown(f"schema {state.schema}, this release knows {', '.join(READS)}")
    if state is not None and (limits := state.definition.get("limits")):
        of_grabs(state.campaign_id, limits)
        of_passes(state.campaign_id, limits)
    return state


def _in_parts(campaign_ids: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(campaign_ids), PART):
        yield campaign_ids[start : start + PART]


async def _forever(step: Callable[[], Any], pause_ms: int, alarms: Alarms | None) -> None:
    """Repeat a step; neither Redis being away nor a fault of ours ends it. Each is said once."""
    said = ""
    while True:
        try:
            await step()
            said = ""
            if alarms is not None:
                alarms.leave(READING)
        except FlashgrabError as error:
            if alarms is not None:
                alarms.failed(error, READING)
        except Exception as error:
            if repr(error) != said:
                said = repr(error)
                log.exception("campaigns_not_refreshed")
        await asyncio.sleep(pause_ms / 1000)
