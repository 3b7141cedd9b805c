"""Which of several relays leads: a lease in Redis, by Redis' clock (lua/lease.lua).

One for the whole deployment. A relay keeps no cursor outside its memory, so all that a lease has to
fence is that memory: its epoch names a term, and what was read and acknowledged in one term counts
for nothing in the next (worker/relay.py).
"""

import asyncio
import contextlib
import secrets

import structlog

from flashgrab.alarms import EVENT_HOLD_MS, Alarm
from flashgrab.clock import Clock
from flashgrab.errors import StoreRefused, StoreUnavailable
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from worker.pause import Pause

LEASE_MS = 2000
"""How long a leader that is silent is waited for; not by a successor of the same name."""
KEEP_MS = 500
ASK_MS = 200
REPLY_MS = 1000

log = structlog.get_logger()


class Lease:
    """This process' part in it. `epoch` is 0 where it does not hold the lease."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        metrics: Metrics,
        *,
        name: str = "",
        lease_ms: int = LEASE_MS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._alarms = metrics.alarms
        self._lease_ms = lease_ms
        self._holder = name or secrets.token_hex(8)
        self._until_ms = 0  # monotonic, counted from before Redis was asked
        self._stopping = asyncio.Event()
        self.epoch = 0
        self.heard = asyncio.Event()
        """Set whenever Redis has said that this relay leads."""
        metrics.live["flashgrab_relay_leads"] = lambda: float(self.leads())

    def leads(self) -> bool:
        """Whether no other relay can have taken over yet, however long this process stood still."""
        return self._clock.monotonic_ms() < self._until_ms

    def stop(self) -> None:
        """Give it up, so that another relay leads at once."""
        self._stopping.set()

    async def run(self) -> None:
        """Until stopped; Redis being away is waited for."""
        pause = Pause("relay: lease", self._alarms, most_ms=KEEP_MS)
        while not self._stopping.is_set():
            try:
                wait_ms = await self._ask()
                pause.over()
            except (StoreUnavailable, StoreRefused) as error:
                if isinstance(error, StoreRefused) and self.leads():
                    # it takes no writes, so nobody else's either: whoever leads goes on reading
                    self._until_ms = self._clock.monotonic_ms() + self._lease_ms
                await pause.again(error)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_ms / 1000):
                    await self._stopping.wait()
        await self._give_up()

    async def _ask(self) -> int:
        """Take it or keep it. Returns after how long to ask again (ms)."""
        asked_ms = self._clock.monotonic_ms()
        try:
            async with asyncio.timeout(REPLY_MS / 1000):
                reply = await self._store.lease(self._holder, self.epoch, self._lease_ms)
        except TimeoutError:
            raise StoreUnavailable("Redis: no word on the relay's lease") from None
        if reply.held:
            if reply.epoch != self.epoch:
                log.info("this relay leads", epoch=reply.epoch)
            self.epoch, self._until_ms = reply.epoch, asked_ms + self._lease_ms
            self.heard.set()
            return KEEP_MS
        if self.epoch:
            reason = f"epoch {self.epoch} is over, it is {reply.epoch}"
            self._alarms.begin(Alarm.RELAY_FENCED, reason, by="lease", hold_ms=EVENT_HOLD_MS)
            # if it has this one's name, they must not take turns
            self._holder = secrets.token_hex(8)
        self.epoch = self._until_ms = 0
        return min(reply.left_ms + 1, ASK_MS)

    async def _give_up(self) -> None:
        self._until_ms = 0
        if self.epoch:
            with contextlib.suppress(StoreUnavailable, StoreRefused, TimeoutError):
                async with asyncio.timeout(REPLY_MS / 1000):
                    await self._store.lease(self._holder, self.epoch, 0)
        self.epoch = 0
