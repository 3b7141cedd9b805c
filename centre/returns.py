"""Brings Redis the returns that the ledger has committed, until it has them all.

Each return is idempotent by its serial, so a crash at any step is only a delay. One that Redis
can't take now (the campaign is missing, unconfirmed or in another epoch there, the outbox is full)
waits, and keeps nobody else waiting.
"""

from collections.abc import Callable

from flashgrab.alarms import Alarm, Alarms
from flashgrab.errors import StoreRefused
from flashgrab.ledger import progress, returns
from flashgrab.ledger.pool import Pool
from flashgrab.state import Returning
from flashgrab.store import Store

PAGE = 100
"""Returns that are brought before they are marked, and their campaign announced."""

RETURNED, MISSING, EPOCH, RUN, FLOOR, SCHEMA, UNKNOWN, ALREADY, BUSY = range(9)
"""The codes of lua/return.lua."""

WHY = {
    MISSING: "Redis has lost the campaign; it waits for `flashgrab campaign rebuild`",
    EPOCH: "Redis has the campaign in another epoch",
    RUN: "the campaign is not confirmed yet for the server that answers",
    FLOOR: "Redis knows less than the ledger; it waits for `flashgrab campaign rebuild`",
    SCHEMA: "Redis has the campaign in a form that this release does not know",
    UNKNOWN: "Redis does not know the grant",
    BUSY: "the outbox is full",
}


class Returner:
    """One step of the centre's loop. `reached` is called between its parts, for tests."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        reached: Callable[[str], None] = lambda _step: None,
        alarms: Alarms | None = None,
    ) -> None:
        self.troubles: dict[str, str] = {}
        """By campaign: why a return of it is not in Redis. At most one entry a campaign."""
        self._pool = pool
        self._store = store
        self._reached = reached
        self._alarms = alarms or Alarms()

    async def catch_up(self, run: str) -> None:
        """Everything that is pending for this run. Raises StoreUnavailable, LedgerUnavailable."""
        troubles: dict[str, str] = {}
        for campaign_id, epoch in await returns.waiting(self._pool, run):
            try:
                if trouble := await self._campaign(campaign_id, epoch, run):
                    troubles[campaign_id] = trouble
            except StoreRefused as error:
                troubles[campaign_id] = str(error)
        self._alarms.only(Alarm.RETURN_WAITS, troubles, by="returns")
        self.troubles = troubles

    async def _campaign(self, campaign_id: str, epoch: int, run: str) -> str:
        """All of one campaign; why one of them waits, "" where none does."""
        floor = await progress.highest_seq(self._pool, campaign_id)
        trouble, after = "", 0
        while page := await returns.pending(self._pool, campaign_id, epoch, run, after, PAGE):
            after = page[-1].serial
            self._reached("before return")
            grants = [Returning(p.serial, p.round, p.user_id, p.device_id) for p in page]
            by_run, codes = await self._store.give_back(campaign_id, epoch, floor, grants)
            self._reached("returned")
            answered = list(zip(grants, codes, strict=False))
            there = [g.serial for g, code in answered if code in (RETURNED, ALREADY)]
            if there:
                await returns.mark(self._pool, campaign_id, there, epoch, by_run)
                self._reached("noted")
            if RETURNED in codes:
                await self._store.announce(campaign_id)
            for grant, code in answered:
                if code in WHY:
                    of = f" (serial {grant.serial})" if code == UNKNOWN else ""
                    trouble = WHY[code] + of
            if codes[-1] not in (RETURNED, ALREADY, UNKNOWN):
                break
        return trouble
