"""Brings Redis to the ledger's target, until both sides agree on every campaign's version.

The ledger has committed before anything here begins, so a crash at any step is only a delay: each
step is idempotent, and the next round of the loop takes up where the last one ended.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable

import structlog

from centre.returns import Returner
from flashgrab.alarms import Alarm, Alarms
from flashgrab.errors import FlashgrabError, LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger import campaigns, rebuilds
from flashgrab.ledger.campaigns import Campaign
from flashgrab.ledger.pool import Pool
from flashgrab.model import Round
from flashgrab.scripts import SCHEMA
from flashgrab.state import CampaignState
from flashgrab.store import Store

PAUSE_MS = 1000
"""Between two rounds of the loop while nobody wakes it: another centre may have committed."""
RETRY_MS = 100
"""After a round that failed, even when somebody wakes it."""
AGREE_MS = 5000
"""Between two looks at what was applied before and may still grant, and at the registry."""

APPLIED, ALREADY, MISSING, EPOCH, BELOW = range(5)
"""The codes of lua/apply.lua."""

WHY = {
    MISSING: (
        Alarm.REDIS_DATA_LOST,
        "Redis has lost it; nothing is granted until `flashgrab campaign rebuild`",
    ),
    EPOCH: (Alarm.EPOCH_DIFFERS, "Redis has it in another epoch"),
    BELOW: (Alarm.APPLY_FAILED, "Redis has granted more than the new quota"),
}
OF_CAMPAIGN = (
    Alarm.REDIS_DATA_LOST,
    Alarm.EPOCH_DIFFERS,
    Alarm.APPLY_FAILED,
    Alarm.REDIS_REFUSES,
)
APPLIER, ROUND = "apply", "apply, all"
"""Who sees the alarms of one campaign, and those of all."""

log = structlog.get_logger()


class CannotApply(FlashgrabError):
    """Redis and ledger do not fit together for one campaign; the message says how."""

    def __init__(self, message: str, alarm: Alarm = Alarm.APPLY_FAILED) -> None:
        super().__init__(message)
        self.alarm = alarm


class Applier:
    """The loop. `reached` is called between the steps, so that tests can stop it exactly there."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        *,
        alarms: Alarms | None = None,
        pause_ms: int = PAUSE_MS,
        agree_ms: int = AGREE_MS,
        schema: str = SCHEMA,
        reached: Callable[[str], None] = lambda _step: None,
    ) -> None:
        self.troubles: dict[str, str] = {}
        """By campaign: why Redis does not have it. At most one entry a campaign."""
        self.returner = Returner(pool, store, reached, alarms)
        self.lost: set[str] = set()
        """Those that Redis has lost: nothing but a rebuild brings them back."""
        self._pool = pool
        self._store = store
        self._alarms = alarms or Alarms()
        self._pause_ms = pause_ms
        self._agree_ms = agree_ms
        self._schema = schema
        self._reached = reached
        self._woken = asyncio.Event()
        self._round_over = asyncio.Event()
        self._rebuilding: set[str] = set()
        self._agreed_run = ""
        self._agreed_at = 0.0

    async def run(self) -> None:
        """For ever. Redis or PostgreSQL being away is waited for, and an alarm."""
        while True:
            self._woken.clear()
            failed = await self._round()
            self._round_over.set()
            self._round_over = asyncio.Event()
            if failed:
                await asyncio.sleep(RETRY_MS / 1000)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_ms / 1000):
                    await self._woken.wait()

    async def applied(self, campaign_id: str, version: int, within_ms: int) -> bool:
        """Wake the loop, and wait until Redis has this version; False when it takes longer."""

        async def has_it() -> bool:
            return await campaigns.applied_version(self._pool, campaign_id) >= version

        return await self.until(has_it, within_ms)

    async def until(self, met: Callable[[], Awaitable[bool]], within_ms: int) -> bool:
        """Wake the loop until its work has made this true; False when it takes longer."""
        with contextlib.suppress(TimeoutError, LedgerUnavailable):
            async with asyncio.timeout(within_ms / 1000):
                while not await met():
                    self._woken.set()
                    await self._round_over.wait()
                return True
        return False

    async def catch_up(self) -> None:
        """One round. Raises StoreUnavailable and LedgerUnavailable; then nothing is lost."""
        run = await self._store.run_id()
        self._rebuilding = {r.campaign_id for r in await rebuilds.going_on(self._pool)}
        for campaign_id in await campaigns.behind(self._pool):
            await self._one(campaign_id, run)
        await self.returner.catch_up(run)
        due = time.monotonic() - self._agreed_at > self._agree_ms / 1000
        if due or run != self._agreed_run:
            await self._agree(run, everything=run != self._agreed_run)
            self._agreed_run, self._agreed_at = run, time.monotonic()

    async def _round(self) -> bool:
        try:
            await self.catch_up()
            self._alarms.leave(ROUND)
            return False
        except (StoreUnavailable, LedgerUnavailable) as error:
            self._alarms.failed(error, ROUND)
        except Exception as error:
            # The loop outlives a fault of ours: what stands still here stands still for all.
            log.exception("apply_failed", runbook=Alarm.APPLY_FAILED.runbook)
            self._alarms.begin(Alarm.APPLY_FAILED, repr(error), by=ROUND)
        self._agreed_run = ""  # nobody knows how far it came
        return True

    async def _agree(self, run: str, *, everything: bool) -> None:
        """Look whether Redis still has what it was brought to: it may be another server, or an
        older copy of its data. Then the registry: one that was lost heals here."""
        known = await campaigns.applied(self._pool)
        for campaign_id in known if everything else await campaigns.live(self._pool):
            await self._one(campaign_id, run)
        registered = await self._store.registry()
        for campaign_id in known:
            if campaign_id not in registered:
                await self._store.register(campaign_id)

    async def _one(self, campaign_id: str, run: str) -> None:
        """One campaign; what is wrong with it does not hold up the others."""
        if campaign_id in self._rebuilding:
            self.troubles.pop(campaign_id, None)
            self.lost.discard(campaign_id)
            return  # its end brings Redis to the target
        campaign = await campaigns.get(self._pool, campaign_id)
        if campaign is None:
            return
        try:
            if campaign.applied_version:
                await self._apply(campaign)
            else:
                await self._publish(campaign_id, run)
        except (CannotApply, StoreRefused) as error:
            alarm = error.alarm if isinstance(error, CannotApply) else Alarm.REDIS_REFUSES
            self._alarm(campaign_id, alarm, str(error))
            self.troubles[campaign_id] = str(error)
        else:
            self._alarm(campaign_id, None)
            self.troubles.pop(campaign_id, None)

    def _alarm(self, campaign_id: str, is_on: Alarm | None, reason: str = "") -> None:
        """Of all alarms of a campaign this one, or none."""
        for alarm in OF_CAMPAIGN:
            self._alarms.when(alarm is is_on, alarm, reason, campaign=campaign_id, by=APPLIER)

    async def _apply(self, campaign: Campaign) -> None:
        self._reached("before apply")
        code = await self._to_target(campaign)
        self._reached("applied")
        if campaign.applied_version < campaign.version:
            await campaigns.mark_applied(self._pool, campaign.campaign_id, campaign.version)
            self._reached("marked")
            log.info("campaign_applied", campaign=campaign.campaign_id, version=campaign.version)
        elif code == ALREADY:
            return
        await self._store.announce(campaign.campaign_id)

    async def _publish(self, campaign_id: str, run: str) -> None:
        """The registry comes last: no gateway knows the campaign before it is all there."""
        async with campaigns.first_time(self._pool, campaign_id) as campaign:
            if campaign is None:
                return
            self._reached("before publish")
            await self._create(campaign, run)
            self._reached("published")
            await self._to_target(campaign)
            self._reached("applied")
        self._reached("marked")
        await self._store.register(campaign_id)
        self._reached("registered")
        log.info("campaign_published", campaign=campaign_id, version=campaign.version)

    async def _create(self, campaign: Campaign, run: str) -> None:
        # publish.lua makes a PUBLISHED campaign. One that was paused or closed before Redis had
        # it begins one version lower, and apply.lua brings it to its status.
        published = campaign.status == "PUBLISHED"
        created = await self._store.publish(
            campaign.campaign_id,
            run=run,
            version=campaign.version if published else campaign.version - 1,
            operation=campaign.operation,
            definition=public(campaign),
            per_user=campaign.per_user,
            per_device=campaign.per_device,
            rounds=[Round(r.number, r.opens_at, r.closes_at, r.quota) for r in campaign.rounds],
            epoch=campaign.epoch,
            schema=self._schema,
        )
        if not created:
            state = await self._store.read(campaign.campaign_id)
            if state is None or not _is_the_same(state, campaign):
                raise CannotApply("Redis has another campaign under this id, from another ledger")

    async def _to_target(self, campaign: Campaign) -> int:
        code = await self._store.apply(
            campaign.campaign_id,
            epoch=campaign.epoch,
            version=campaign.version,
            operation=campaign.operation,
            status=campaign.status,
            quotas=[r.quota for r in campaign.rounds],
        )
        self.lost.discard(campaign.campaign_id)
        if code == MISSING:
            self.lost.add(campaign.campaign_id)
        if code in WHY:
            alarm, why = WHY[code]
            raise CannotApply(why, alarm)
        return code


def public(campaign: Campaign) -> dict[str, object]:
    """The part of the definition that gateways show and work by."""
    shown = ("id", "name", "rule", "limits", "durability", "challenge", "audience", "segment")
    return {name: value for name, value in campaign.definition.items() if name in shown}


def _is_the_same(state: CampaignState, campaign: Campaign) -> bool:
    """Whether Redis has this very campaign from an attempt that was cut off, and no other.

    It is then in no registry yet, so nothing can have been granted.
    """
    return (
        state.version <= campaign.version
        and state.seq == 0
        and state.epoch == campaign.epoch
        and dict(state.definition) == public(campaign)
        and (state.per_user, state.per_device) == (campaign.per_user, campaign.per_device)
        and [(r.opens_at, r.closes_at) for r in state.rounds]
        == [(r.opens_at, r.closes_at) for r in campaign.rounds]
    )
