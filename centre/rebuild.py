"""Builds a campaign's Redis side anew from the ledger, under the next epoch (design.md, failures).

The steps are in the ledger (flashgrab/ledger/rebuilds.py), each can be repeated, and a centre that
dies between any two is followed by one that goes on. Until the last step the campaign is closed.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from centre.apply import public
from flashgrab import events, keys, rebuilding
from flashgrab.alarms import Alarm, Alarms
from flashgrab.broker import TopicLog, UnknownTopic
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable, LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.events import OutboxEntry
from flashgrab.ledger import campaigns, facts, progress, rebuilds
from flashgrab.ledger.campaigns import Campaign
from flashgrab.ledger.facts import Grant
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.rebuilds import Rebuild, Seen
from flashgrab.log_end import LogEnd
from flashgrab.rebuilding import FENCED, SeedRound
from flashgrab.scripts import SCHEMA
from flashgrab.state import OutboxStanding
from flashgrab.store import OUTBOX_MAX, Store

PAUSE_MS = 1000
"""Between two looks while nobody wakes the loop: another centre may have begun one."""
BUSY_MS = 100
"""Between two looks while one goes on."""
GRACE_MS = 1500
"""After the fence: gateways report their floors once a second, and a relay publishes what it has
in its hands, before Kafka's end is noted."""
FACTS_MAX = 5000
"""Facts of one transaction of the taking over."""

GONE = (StoreUnavailable, StoreRefused, LedgerUnavailable)

REBUILDER = "rebuild"
"""Who sees the alarms of all rebuilds."""

log = structlog.get_logger()


async def _nothing() -> None:
    return


@dataclass
class _Wait:
    """The wait before a cut, since the campaign was fenced: Kafka's ends as they were noted, and
    the run of a server that is known to know every fact."""

    since_ms: int
    log_end: LogEnd = field(default_factory=LogEnd)
    whole_run: str = ""
    seq: int = 0
    epoch: int = 0


@dataclass
class Rebuilder:
    """The loop. `reached` is called between the steps, so that tests can stop it exactly there."""

    pool: Pool
    store: Store
    topic_log: TopicLog | None
    clock: Clock
    reached: Callable[[str], None] = lambda _step: None
    grace_ms: int = GRACE_MS
    outbox_max: int = OUTBOX_MAX
    schema: str = SCHEMA
    alarms: Alarms = field(default_factory=Alarms)
    waits: dict[str, str] = field(default_factory=dict)
    """By campaign: what its rebuild waits for, or does. At most one entry a campaign."""
    _before: dict[str, _Wait] = field(default_factory=dict)
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def wake(self) -> None:
        """One has begun."""
        self._woken.set()

    async def run(self) -> None:
        """For ever. A service that is away is waited for, and an alarm."""
        while True:
            self._woken.clear()
            busy = False
            try:
                busy = await self.go_on()
                self.alarms.leave(REBUILDER)
            except GONE as error:
                self.alarms.failed(error, REBUILDER)
            except Exception as error:
                # The loop outlives a fault of ours, and the campaign stays closed meanwhile.
                log.exception("rebuild_failed", runbook=Alarm.REBUILD_WAITS.runbook)
                self.alarms.begin(Alarm.REBUILD_WAITS, repr(error), by=REBUILDER)
            self.alarms.only(Alarm.REBUILD_WAITS, self.waits, by="rebuilds")
            pause_ms = BUSY_MS if busy else PAUSE_MS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_ms / 1000):
                    await self._woken.wait()

    async def go_on(self) -> bool:
        """As far as each rebuild can go now; whether one is still under way. Raises GONE."""
        under_way = await rebuilds.going_on(self.pool)
        for campaign_id in self.waits.keys() - {r.campaign_id for r in under_way}:
            del self.waits[campaign_id]
        for rebuild in under_way:
            await self._one(rebuild.campaign_id)
        return bool(under_way)

    async def _one(self, campaign_id: str) -> None:
        async with rebuilds.mine(self.pool, campaign_id) as found:
            if found is None:
                return
            rebuild = found
            if rebuild.step == "SWITCH":
                rebuild = await self._after_switch(rebuild)
            if rebuild.step == "DRAIN":
                if not await self._drained(rebuild):
                    return
                self.reached("drained")
                rebuild = await self._cut(rebuild)
            if rebuild.step == "SEED":
                await self._seed(rebuild)

    # -- until the cut -----------------------------------------------------------------------------

    async def _drained(self, rebuild: Rebuild) -> bool:
        """Close the campaign, and wait until the ledger has what Kafka had then."""
        campaign_id, now_ms = rebuild.campaign_id, self.clock.monotonic_ms()
        wait = self._before.get(rebuild.operation)
        if wait is None:
            wait = self._before[rebuild.operation] = _Wait(now_ms)
            await self._fence(campaign_id, wait)
            self.reached("fenced")
        if now_ms - wait.since_ms < self.grace_ms:
            self.waits[campaign_id] = "it is closed; the facts under way arrive"
            return False
        if rebuild.without_kafka:
            return True
        if why := await self._behind_kafka(wait):
            self.waits[campaign_id] = why
            return False
        return True

    async def _behind_kafka(self, wait: _Wait) -> str:
        """What keeps the ledger from having all that Kafka had, "" where it has."""
        if self.topic_log is None:
            return "the centre has no FLASHGRAB_KAFKA_BOOTSTRAP; --without-kafka goes on without"
        try:
            ends = await self.topic_log.end_offsets()
        except UnknownTopic:
            return ""  # never was anything in it, or nothing is
        except BrokerUnavailable:
            return "Kafka does not answer; if it is gone for good, --without-kafka goes on without"
        done = await progress.next_offsets(self.pool, keys.GRABS_TOPIC)
        if wait.log_end.is_read(ends, done):
            return ""
        return f"the ledger has {wait.log_end.behind(done)} records of Kafka still to read"

    async def _fence(self, campaign_id: str, wait: _Wait) -> OutboxStanding | None:
        """Nothing is granted from now on, by whichever server this is; its standing."""
        epoch = await self.store.epoch(campaign_id)
        if not epoch:
            return None
        run = await self.store.run_id()
        code, seq, whole = await rebuilding.fence(self.store, campaign_id, epoch, run)
        there = (await self.store.standings([campaign_id])).get(campaign_id)
        if code == FENCED:
            wait.seq, wait.epoch = max(wait.seq, seq), max(wait.epoch, epoch)
            wait.whole_run = run if whole or wait.whole_run == run else ""
            await self.store.announce(campaign_id)
        return there

    async def _cut(self, rebuild: Rebuild) -> Rebuild:
        """Take over what an old outbox still holds, then close the epoch."""
        campaign_id, wait = rebuild.campaign_id, self._before[rebuild.operation]
        self.waits[campaign_id] = "the old outbox is taken over"
        there = await self._fence(campaign_id, wait)
        taken = await self._take_over(campaign_id, there) if there else 0
        self.reached("taken")
        reports = (await self.store.gateways()).values()
        seen = Seen(
            outbox_max=self.outbox_max,
            epoch=wait.epoch,
            seq=wait.seq,
            whole=there is not None and wait.whole_run == await self.store.run_id(),
            floor=max((r.floors.get(campaign_id, 0) for r in reports), default=0),
            taken_over=taken,
        )
        rebuild = await rebuilds.cut(self.pool, rebuild, seen, self.clock.now_ms())
        del self._before[rebuild.operation]
        log.warning("rebuild_cut", campaign=campaign_id, **(rebuild.report or {}))
        self.reached("cut")
        return rebuild

    async def _take_over(self, campaign_id: str, there: OutboxStanding) -> int:
        """The facts of the old outbox above the watermark, into the ledger; how many were new."""
        campaign = await campaigns.get(self.pool, campaign_id)
        if campaign is None or campaign.epoch != there.epoch:
            return 0  # another history than the ledger's
        taken, at = 0, there.watermark
        while page := await self.store.outbox(campaign_id, at + 1):
            at = page[-1].last_seq
            found: list[Grant] = []
            for entry in page:
                if isinstance(entry, OutboxEntry):
                    with contextlib.suppress(ValueError):  # torn: lost, and counted as that
                        found += [
                            Grant(fact, fact.user_id.encode(), events.encode(fact))
                            for fact in entry.facts(campaign_id)
                        ]
            for first in range(0, len(found), FACTS_MAX):
                written = await facts.write(
                    self.pool,
                    keys.GRABS_TOPIC,
                    [],
                    found[first : first + FACTS_MAX],
                    [],
                    self.clock.now_ms(),
                    fresh=False,
                    on_sending=lambda: None,
                    before_commit=_nothing,
                )
                taken += written.rows
        return taken

    # -- after the cut -----------------------------------------------------------------------------

    async def _seed(self, rebuild: Rebuild) -> None:
        """Stage holders and devices beside the old keys, then switch in one moment."""
        campaign_id, epoch = rebuild.campaign_id, rebuild.epoch
        assert epoch is not None
        self.waits[campaign_id] = "holders are brought back into Redis"
        async with rebuilds.seed(self.pool, campaign_id) as moment:
            counts = await moment.counts()
            await rebuilding.begin(self.store, campaign_id, epoch)
            users = await rebuilding.stage(
                self.store, campaign_id, epoch, "holders", moment.holders()
            )
            campaign = await campaigns.get(self.pool, campaign_id)
            devices: int | None = 0
            if campaign is not None and campaign.per_device:
                devices = await rebuilding.stage(
                    self.store, campaign_id, epoch, "devices", moment.devices()
                )
        self.reached("staged")
        if users is None or devices is None:
            return  # Redis lost what was staged, or another centre stages: again
        rebuild = await rebuilds.move(self.pool, rebuild, "SWITCH")
        self.reached("ready")
        async with rebuilds.ending(self.pool, rebuild, self.clock.now_ms()) as target:
            code = await self._switch(rebuild, target, counts, users, devices)
            if code == rebuilding.INCOMPLETE:
                await rebuilds.move(self.pool, rebuild, "SEED")
                raise StoreRefused("Redis has lost what was staged; it is staged again")
            if code == rebuilding.LATER_EPOCH:
                raise StoreRefused("Redis has a later epoch than the ledger has opened")
            self.reached("switched")
        await self._open(rebuild)

    async def _switch(
        self,
        rebuild: Rebuild,
        target: Campaign,
        counts: dict[int, tuple[int, int]],
        users: int,
        devices: int,
    ) -> int:
        assert rebuild.epoch is not None
        assert rebuild.start is not None
        return await rebuilding.switch(
            self.store,
            rebuild.campaign_id,
            schema=self.schema,
            epoch=rebuild.epoch,
            run=await self.store.run_id(),
            version=target.version,
            operation=target.operation,
            definition=public(target),
            per_user=target.per_user,
            per_device=target.per_device,
            status=target.status,
            seq=rebuild.start,
            users=users,
            devices=devices,
            rounds=[
                SeedRound(r.opens_at, r.closes_at, r.quota, *counts.get(r.number, (0, 0)))
                for r in target.rounds
            ],
            outbox_max=self.outbox_max,
        )

    async def _after_switch(self, rebuild: Rebuild) -> Rebuild:
        """The centre ended, or Redis did not answer, in the middle of a switch. Where the new
        epoch is not there, it may have been, and may have granted: it is closed like any other."""
        there = (await self.store.standings([rebuild.campaign_id])).get(rebuild.campaign_id)
        if there is None or there.epoch != rebuild.epoch:
            return await rebuilds.move(self.pool, rebuild, "DRAIN")
        async with rebuilds.ending(self.pool, rebuild, self.clock.now_ms()) as target:
            await self.store.apply(
                rebuild.campaign_id,
                epoch=there.epoch,
                version=target.version,
                operation=target.operation,
                status=target.status,
                quotas=[r.quota for r in target.rounds],
            )
        await self._open(rebuild)
        return replace(rebuild, step="DONE")

    async def _open(self, rebuild: Rebuild) -> None:
        self.reached("rebuilt")
        await self.store.register(rebuild.campaign_id)
        self.waits.pop(rebuild.campaign_id, None)
        log.warning("rebuilt", campaign=rebuild.campaign_id, report=json.dumps(rebuild.report))
