"""Opens campaigns again after Redis came back with another run_id: a restart, or another server.

A server that knows less than was acknowledged must never grant. So before a campaign is confirmed:
every live gateway has reported its floor to this very run, the ledger holds all that Kafka had
when the run was first seen, and the outbox has no hole above the watermark. Otherwise it stays
closed, until a rebuild.
"""

from collections.abc import Mapping

import structlog

from flashgrab import keys
from flashgrab.alarms import Alarm
from flashgrab.broker import TopicLog
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable
from flashgrab.events import OutboxEntry
from flashgrab.ledger import progress, rebuilds
from flashgrab.ledger.pool import Pool
from flashgrab.log_end import LogEnd
from flashgrab.state import GatewayReport, OutboxStanding
from flashgrab.store import Store
from flashgrab.telemetry import Metrics

GRACE_MS = 1000
"""Gateways connect again within 200 ms and report at once."""
REST_MS = 1000
"""While the run stays the same and nothing is closed, the campaigns are not looked at."""
REPORT_MS = 5000
"""A gateway that has not reported for so long is not live."""

CONFIRMER = "runs"
"""Who sees these alarms."""

Closed = tuple[Alarm, str]
"""Why a campaign stays closed."""

CONFIRM_REFUSALS = {
    1: (Alarm.REDIS_DATA_LOST, "its key went missing"),
    2: (Alarm.EPOCH_DIFFERS, "Redis has another epoch than the ledger"),
    3: (Alarm.REDIS_STALE, "its data are too old"),
    4: (Alarm.CAMPAIGN_CLOSED, "it is being rebuilt"),
}
ALARMS = (Alarm.CAMPAIGN_CLOSED, *(alarm for alarm, _ in CONFIRM_REFUSALS.values()))

log = structlog.get_logger()


class Confirmation:
    """The walker's second duty. Raises LedgerUnavailable, StoreUnavailable and StoreRefused."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        topic_log: TopicLog,
        clock: Clock,
        metrics: Metrics,
        *,
        grace_ms: int = GRACE_MS,
        report_ms: int = REPORT_MS,
        rest_ms: int = REST_MS,
    ) -> None:
        self._pool = pool
        self._store = store
        self._topic_log = topic_log
        self._clock = clock
        self._alarms = metrics.alarms
        self._grace_ms = grace_ms
        self._report_ms = report_ms
        self._rest_ms = rest_ms
        self._run = ""
        self._seen_ms = 0
        self._rest_until_ms = 0
        self._log_end = LogEnd()  # after this run was first seen
        self._said: set[tuple[str, str]] = set()

    async def step(self) -> None:
        """Look at the run; confirm what can be confirmed now."""
        run = await self._store.run_id()
        if run == self._run and self._clock.monotonic_ms() < self._rest_until_ms:
            return
        if run != self._run:
            self._run, self._seen_ms = run, self._clock.monotonic_ms()
            self._log_end = LogEnd()
            self._said.clear()
        standings = await self._store.standings(sorted(await self._store.registry()))
        closed = {c: s for c, s in standings.items() if s.run != run}
        if not closed:
            self._alarm({})
            self._rest_until_ms = self._clock.monotonic_ms() + self._rest_ms
            return
        if why := await self._why_all_wait(run):
            self._alarm(dict.fromkeys(closed, (Alarm.CAMPAIGN_CLOSED, why)))
            return
        if self._clock.monotonic_ms() - self._seen_ms < self._grace_ms:
            return
        reports = await self._store.gateways()
        in_ledger = {s.campaign_id: s for s in await progress.standings(self._pool)}
        stay: dict[str, Closed] = {}
        rebuilding = {r.campaign_id for r in await rebuilds.going_on(self._pool)}
        for campaign_id, standing in closed.items():
            refused: Closed | None
            if campaign_id not in in_ledger:
                refused = Alarm.CAMPAIGN_CLOSED, "the ledger does not know it"
            elif campaign_id in rebuilding:
                refused = CONFIRM_REFUSALS[4]
            elif in_ledger[campaign_id].epoch != standing.epoch:
                refused = CONFIRM_REFUSALS[2]
            else:
                refused = await self._confirm(campaign_id, standing, run, reports)
            if refused is not None:
                stay[campaign_id] = refused
        self._alarm(stay)

    async def _why_all_wait(self, run: str) -> str:
        """What keeps every campaign closed, "" where nothing does."""
        try:
            ends = await self._topic_log.end_offsets()
        except BrokerUnavailable:
            return "Kafka can't be asked how far it is"
        done = await progress.next_offsets(self._pool, keys.GRABS_TOPIC)
        if not self._log_end.is_read(ends, done):
            return "the ledger does not yet hold what Kafka has"
        now_ms = await self._store.now_ms()
        reports = await self._store.gateways()
        live = {g: r for g, r in reports.items() if now_ms - r.at_ms <= self._report_ms}
        late = sorted(g for g, r in live.items() if r.run != run)
        return f"no report of the new run from {', '.join(late)}" if late else ""

    async def _confirm(
        self,
        campaign_id: str,
        standing: OutboxStanding,
        run: str,
        reports: Mapping[str, GatewayReport],
    ) -> Closed | None:
        """Open it, or say why it stays closed."""
        floors = [r.floors.get(campaign_id, 0) for r in reports.values() if r.run == run]
        seq_min = max([*floors, await progress.highest_seq(self._pool, campaign_id)])
        if standing.seq < seq_min:
            return CONFIRM_REFUSALS[3]
        if hole := await self._hole(campaign_id, standing):
            return Alarm.REDIS_STALE, hole
        code = await self._store.confirm(campaign_id, standing.epoch, seq_min, run)
        if code:
            return CONFIRM_REFUSALS[code]
        await self._store.announce(campaign_id)
        log.info("confirmed", campaign=campaign_id, seq=standing.seq, run=run)
        return None

    async def _hole(self, campaign_id: str, standing: OutboxStanding) -> str:
        """What is missing in the outbox between watermark and seq, "" where nothing is."""
        at = standing.watermark
        while at < standing.seq:
            page = await self._store.outbox(campaign_id, at + 1)
            for entry in page:
                if not isinstance(entry, OutboxEntry):
                    return f"outbox entry {entry.last_seq} is torn"
                if entry.first_seq > at + 1:
                    return f"the outbox has no seqs {at + 1}-{entry.first_seq - 1}"
                at = entry.last_seq
            if not page:
                return f"the outbox has no seqs {at + 1}-{standing.seq}"
        return ""

    def _alarm(self, closed: Mapping[str, Closed]) -> None:
        """Which campaigns stay closed now; another reason is said, too, once in each run."""
        before = {c for c, (alarm, _) in closed.items() if self._alarms.is_on(alarm, c)}
        for alarm in ALARMS:
            reasons = {c: why for c, (kind, why) in closed.items() if kind is alarm}
            self._alarms.only(alarm, reasons, by=CONFIRMER)
        for campaign_id, (_, why) in closed.items():
            if (campaign_id, why) not in self._said:
                self._said.add((campaign_id, why))
                if campaign_id in before:
                    log.info("campaign stays closed", campaign=campaign_id, reason=why)
