"""Advances the watermark of every campaign, tells Redis, and finds what was lost on the way."""

from collections.abc import Mapping
from dataclasses import dataclass

import structlog

from flashgrab import keys
from flashgrab.alarms import Alarm
from flashgrab.broker import TopicLog
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable
from flashgrab.ledger import progress
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.progress import Standing
from flashgrab.measured import Labels
from flashgrab.state import OutboxStanding
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from worker.steps import Hook, go_on

STEP = 5000
"""Facts that one step of the watermark goes over at the most. A step reads what follows the
watermark even where it cannot pass, so a long one is dear while partitions are read unevenly."""
SEARCH = 20_000
"""Seqs above the watermark that are searched for holes."""
HOLE_MS = 10_000
HOLE_RANGES_MAX = 64

BEHIND_MS = 10_000
LAG = "flashgrab_persist_lag_serials"
WALKER = "walker"
LOG = "end of the log"
"""Who sees the alarms of campaigns, and of Kafka: the walker, which leaves them with its role."""

SETTLE_REFUSALS = {
    1: (Alarm.REDIS_DATA_LOST, "its key is missing, or of a schema that is unknown here"),
    2: (Alarm.EPOCH_DIFFERS, "Redis has another epoch"),
    3: (Alarm.REDIS_STALE, "Redis gave fewer seqs than the ledger has: its data are too old"),
}

log = structlog.get_logger()


@dataclass(slots=True)
class Watch:
    """The watermark of a campaign that does not move although facts follow it."""

    watermark: int
    since_ms: int
    stands_ms: int
    asked: bool = False
    lost: bool = False


class Watermark:
    """The walker's first duty. Raises LedgerUnavailable, StoreUnavailable and StoreRefused."""

    def __init__(
        self,
        pool: Pool,
        store: Store,
        topic_log: TopicLog,
        clock: Clock,
        metrics: Metrics,
        *,
        hook: Hook = go_on,
        hole_ms: int = HOLE_MS,
        behind_ms: int = BEHIND_MS,
        step: int = STEP,
    ) -> None:
        self._pool = pool
        self._store = store
        self._topic_log = topic_log
        self._clock = clock
        self._metrics = metrics
        self._hook = hook
        self._hole_ms = hole_ms
        self._behind_ms = behind_ms
        self._step = step
        self._holes: dict[str, str] = {}  # what each campaign's relay is asked for
        self._settled: dict[str, tuple[int, int, str]] = {}  # epoch, watermark, holes
        self._refused: dict[str, int] = {}
        self._apart: dict[str, int] = {}  # what the last survey saw, by code of refusal
        self._watches: dict[str, Watch] = {}
        self._ends: dict[int, int] | None = None
        self._behind: list[str] | None = None  # campaigns to walk, None for all

    async def walk(self) -> bool:
        """One bounded step of every campaign that can go on. Whether one can take another.

        The survey has said which ones are worth a look: those that ended long ago cost nothing.
        """
        more = False
        if self._behind is not None and not self._behind:
            return False
        for standing in await progress.standings(self._pool, self._behind):
            watermark = standing.watermark
            if standing.ready:
                watermark = await progress.advance(
                    self._pool,
                    standing.campaign_id,
                    watermark,
                    self._step,
                    self._clock.now_ms(),
                )
                more = more or watermark - standing.watermark >= self._step
                await self._hook("advanced")
            await self._settle(standing, watermark)
        return more

    async def _settle(self, standing: Standing, watermark: int) -> None:
        campaign_id = standing.campaign_id
        wanted = (standing.epoch, watermark, self._holes.get(campaign_id, ""))
        if self._settled.get(campaign_id) == wanted:
            return
        code = await self._store.settle(campaign_id, *wanted)
        self._settled[campaign_id] = wanted
        if code:
            self._refused[campaign_id] = code
        else:
            self._refused.pop(campaign_id, None)
        await self._hook("settled")

    async def survey(self) -> None:
        """About once a second: compare with Redis, measure the lag, look for holes."""
        standings = await progress.standings(self._pool)
        in_redis = await self._store.standings([s.campaign_id for s in standings])
        caught_up = await self._caught_up()
        behind = []
        lags: dict[Labels, float] = {}
        for standing in standings:
            campaign_id = standing.campaign_id
            there = in_redis.get(campaign_id)
            if (
                there is None
                or there.holes
                or there.seq != standing.watermark
                or (there.watermark != standing.watermark)
            ):
                behind.append(campaign_id)
            if there is None:
                self._settled.pop(campaign_id, None)
                continue
            # Redis may have lost what settle told it, with all that came after it
            if (there.watermark, there.holes) != self._settled.get(campaign_id, ())[1:]:
                self._settled.pop(campaign_id, None)
            lags[campaign_id,] = max(0, there.seq - standing.watermark)
            await self._look_for_holes(standing, there, caught_up)
        self._behind = behind
        self._metrics.only(LAG, lags)
        self._alarm(in_redis, {s.campaign_id: s.epoch for s in standings})

    def forget_figures(self) -> None:
        """This process does not look, or can't."""
        self._metrics.only(LAG, {})

    def _alarm(self, in_redis: Mapping[str, OutboxStanding], epochs: Mapping[str, int]) -> None:
        """What this survey, and the settling since the last one, say of each campaign."""
        now_ms = self._clock.monotonic_ms()
        seen: dict[Alarm, dict[str, str]] = {alarm: {} for alarm, _ in SETTLE_REFUSALS.values()}
        for campaign_id, code in self._refused.items():
            alarm, why = SETTLE_REFUSALS[code]
            seen[alarm][campaign_id] = why
        apart: dict[str, int] = {}
        for campaign_id, epoch in epochs.items():
            there = in_redis.get(campaign_id)
            if there is None or there.epoch != epoch:
                apart[campaign_id] = 1 if there is None else 2
        for campaign_id, code in apart.items():
            if self._apart.get(campaign_id) == code:  # the ledger is the first to be told
                alarm, why = SETTLE_REFUSALS[code]
                seen[alarm][campaign_id] = why
        self._apart = apart
        waiting = {c: watch for c, watch in self._watches.items() if c in in_redis}
        seen[Alarm.LEDGER_BEHIND] = {
            c: f"the watermark stands at {watch.watermark}"
            for c, watch in waiting.items()
            if now_ms - watch.stands_ms >= self._behind_ms
        }
        seen[Alarm.FACTS_MISSING] = {
            c: f"above {watch.watermark}: asking for them again"
            for c, watch in waiting.items()
            if watch.lost
        }
        for alarm, reasons in seen.items():
            self._metrics.alarms.only(alarm, reasons, by=WALKER)

    async def _caught_up(self) -> bool:
        """Whether all that the log held at the last survey is in the ledger, by offsets.

        An offset beyond the log's end is of an older incarnation, so nothing is known yet.
        """
        try:
            ends = await self._topic_log.end_offsets()
        except BrokerUnavailable as error:
            self._metrics.alarms.failed(error, LOG)
            self._ends = None
            return False
        self._metrics.alarms.leave(LOG)
        before, self._ends = self._ends, ends
        if before is None:
            return False
        done = await progress.next_offsets(self._pool, keys.GRABS_TOPIC)
        return all(before.get(p, 0) <= done.get(p, 0) <= end for p, end in ends.items())

    async def _look_for_holes(
        self, standing: Standing, there: OutboxStanding, caught_up: bool
    ) -> None:
        """The same hole for `hole_ms` without consumer lag is lost: the relay is asked for it.

        After as long again the question is withdrawn, and then put again.
        """
        campaign_id, now_ms = standing.campaign_id, self._clock.monotonic_ms()
        if there.seq <= standing.watermark or there.epoch != standing.epoch:
            self._watches.pop(campaign_id, None)
            self._holes.pop(campaign_id, None)
            return
        watch = self._watches.get(campaign_id)
        if watch is None or watch.watermark != standing.watermark:
            self._watches[campaign_id] = Watch(standing.watermark, now_ms, now_ms)
            self._holes.pop(campaign_id, None)
            return
        if not caught_up:
            watch.since_ms = now_ms
            return
        if now_ms - watch.since_ms < self._hole_ms:
            return
        watch.since_ms, watch.asked = now_ms, not watch.asked
        if not watch.asked:
            self._holes.pop(campaign_id, None)
            return
        to_seq = min(there.seq, standing.watermark + SEARCH)
        ranges = await progress.holes(
            self._pool, campaign_id, standing.watermark, to_seq, HOLE_RANGES_MAX
        )
        self._holes[campaign_id], watch.lost = progress.as_text(ranges), bool(ranges)
        log.warning("facts are lost: asking for them again", campaign=campaign_id, n=len(ranges))
