"""The closed list of what an operator is called for, and which of it is so now.

A part that sees an alarm's failure begins it and ends it. It is then 1 in flashgrab_alarm{alarm} of
the part's /metrics, and one line in the log when it begins and when it ends, with the place in
docs/runbook.md that says what to do. `metrics.alarms` of telemetry.py is a part's own.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from enum import Enum
from typing import Literal, NamedTuple

import structlog

from flashgrab.clock import Clock, SystemClock
from flashgrab.errors import (
    BrokerUnavailable,
    LedgerUnavailable,
    StaleWriter,
    StoreRefused,
    StoreUnavailable,
)
from flashgrab.tasks import end

Part = Literal["gateway", "relay", "worker", "centre"]

HOLD_MS = 5000
"""How long a failure that is seen at single requests counts as going on."""
EVENT_HOLD_MS = 60_000
"""The same for what happens once, so that a look every half minute finds it."""
TICK_MS = 500
LINES_MAX, LINES_MS = 10, 60_000
"""Lines of one alarm in such a time; more are only counted, the metric is always right."""
REASON_MAX = 300
"""Characters of a reason in a line."""
RUNBOOK = "docs/runbook.md"

log = structlog.get_logger()


class Meaning(NamedTuple):
    """The runbook's anchor, which is the metric's label; who sees it; what is so."""

    anchor: str
    parts: tuple[Part, ...]
    words: str


class Alarm(Enum):
    """Everything that calls for an operator. docs/runbook.md has an entry for each."""

    REDIS_GONE = Meaning(
        "redis-gone", ("gateway", "relay", "worker", "centre"), "Redis does not answer"
    )
    REDIS_SLOW = Meaning("redis-slow", ("gateway",), "script calls are lost or come too late")
    REDIS_REFUSES = Meaning(
        "redis-refuses", ("gateway", "relay", "worker", "centre"), "Redis answers with an error"
    )
    CLOCK_SKEW = Meaning("clock-skew", ("gateway",), "the clocks here and at Redis part ways")
    CAMPAIGN_CLOSED = Meaning(
        "campaign-closed", ("gateway", "worker"), "not confirmed for the server that answers"
    )
    REDIS_STALE = Meaning(
        "redis-stale", ("gateway", "worker"), "Redis knows less than was acknowledged"
    )
    REDIS_DATA_LOST = Meaning(
        "redis-data-lost", ("gateway", "worker", "centre"), "Redis has lost the campaign"
    )
    CAMPAIGN_UNREADABLE = Meaning(
        "campaign-unreadable", ("gateway",), "the campaign's keys in Redis can't be read"
    )
    EPOCH_DIFFERS = Meaning(
        "epoch-differs", ("worker", "centre"), "Redis and ledger have different epochs"
    )
    SCHEMA_UNKNOWN = Meaning(
        "schema-unknown", ("gateway",), "the campaign's schema is unknown to this release"
    )
    REPLICA_MISSING = Meaning(
        "replica-missing", ("gateway",), "no replica confirms what must be confirmed"
    )
    OUTBOX_FULL = Meaning("outbox-full", ("gateway",), "the outbox is at its bound")
    QUEUE_FULL = Meaning("queue-full", ("gateway",), "more grabs wait than a gateway keeps")
    LIMITER_GONE = Meaning(
        "limiter-gone", ("gateway",), "rate limits are held by each gateway process alone"
    )
    LOGIN_KEYS = Meaning(
        "login-keys", ("gateway",), "the file of the login's keys can't be used; the last ones stay"
    )
    CONNECTIONS_FULL = Meaning(
        "connections-full", ("gateway",), "connections are refused, there are as many as may be"
    )
    TLS_PAIR_BROKEN = Meaning(
        "tls-pair-broken", ("gateway",), "the new certificate can't be used; the old one serves on"
    )
    OVERLOADED = Meaning("overloaded", ("gateway",), "more grabs arrive than Redis decides")
    LOOP_LATE = Meaning("loop-late", ("gateway",), "a gateway has more to do than its CPU can")
    PROCESS_DIED = Meaning("process-died", ("gateway",), "a process of the gateway has died")
    KAFKA_GONE = Meaning("kafka-gone", ("relay", "worker", "centre"), "Kafka does not answer")
    KAFKA_LOST_LOG = Meaning("kafka-lost-log", ("relay", "worker"), "Kafka has another log")
    TORN_ENTRY = Meaning("torn-entry", ("relay",), "an outbox entry can't be read")
    RELAY_FENCED = Meaning("relay-fenced", ("relay",), "this relay has lost its lease to another")
    FACTS_MISSING = Meaning("facts-missing", ("worker",), "facts did not reach the ledger")
    LEDGER_BEHIND = Meaning("ledger-behind", ("worker",), "facts wait and none reaches the ledger")
    STALE_WORKER = Meaning("stale-worker", ("worker",), "another worker has moved the offsets")
    DEAD_LETTERS = Meaning("dead-letters", ("worker",), "events could not be stored")
    BOOKS_WRONG = Meaning("books-wrong", ("worker",), "an invariant does not hold")
    POSTGRES_GONE = Meaning("postgres-gone", ("worker", "centre"), "PostgreSQL does not answer")
    MIGRATION_FAILED = Meaning(
        "migration-failed", ("worker", "centre"), "the ledger has not this release's schema"
    )
    APPLY_FAILED = Meaning("apply-failed", ("centre",), "a change is not in Redis yet")
    REBUILD_WAITS = Meaning("rebuild-waits", ("centre",), "a rebuild is under way, or stands still")
    RETURN_WAITS = Meaning("return-waits", ("centre",), "a return is not in Redis yet")

    @property
    def anchor(self) -> str:
        return self.value.anchor

    @property
    def runbook(self) -> str:
        """Where the runbook says what to do."""
        return f"{RUNBOOK}#{self.anchor}"


SERVICES: dict[type[Exception], Alarm] = {
    StoreUnavailable: Alarm.REDIS_GONE,
    StoreRefused: Alarm.REDIS_REFUSES,
    BrokerUnavailable: Alarm.KAFKA_GONE,
    LedgerUnavailable: Alarm.POSTGRES_GONE,
    StaleWriter: Alarm.STALE_WORKER,
}
"""What the adapters raise."""


class Alarms:
    """The alarms of one process. Not thread-safe but for rows().

    An alarm can be of a campaign, and be seen by several (`by`): it goes on until all of them have
    ended it. A line is said for each campaign, not for each who sees it.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._seen: dict[Alarm, dict[str, dict[str, int]]] = {}  # campaign → by → ends at, 0 never
        self._since_ms: dict[tuple[Alarm, str], int] = {}
        self._begun: dict[Alarm, int] = {}
        self._lines: dict[Alarm, tuple[int, int]] = {}  # since when, how many

    def of(self, part: Part) -> None:
        """Show those of a part from its start, at 0."""
        for alarm in Alarm:
            if part in alarm.value.parts:
                self._begun.setdefault(alarm, 0)

    def begin(
        self, alarm: Alarm, reason: str = "", *, campaign: str = "", by: str = "", hold_ms: int = 0
    ) -> None:
        """It is so; again while it is so does nothing. With `hold_ms` it ends by itself, so long
        after the last time."""
        now_ms = self._clock.monotonic_ms()
        who = self._seen.setdefault(alarm, {}).setdefault(campaign, {})
        is_new = not who
        who[by] = now_ms + hold_ms if hold_ms else 0
        if is_new:
            self._since_ms[alarm, campaign] = now_ms
            self._begun[alarm] = self._begun.get(alarm, 0) + 1
            if self._may_say(alarm, now_ms):
                said = {"reason": reason[:REASON_MAX]} | ({"by": by} if by else {})
                log.error("alarm_begins", **_fields(alarm, campaign), **said)

    def end(self, alarm: Alarm, *, campaign: str = "", by: str = "") -> None:
        """It is so no more, as far as `by` sees; nothing where it was not."""
        campaigns = self._seen.get(alarm)
        who = campaigns.get(campaign) if campaigns else None
        if not campaigns or not who or who.pop(by, None) is None or who:
            return
        del campaigns[campaign]
        now_ms = self._clock.monotonic_ms()
        lasted_ms = now_ms - self._since_ms.pop((alarm, campaign))
        if self._may_say(alarm, now_ms):
            log.info("alarm_ends", **_fields(alarm, campaign), lasted_ms=lasted_ms)

    def when(
        self, so: bool, alarm: Alarm, reason: str = "", *, campaign: str = "", by: str = ""
    ) -> None:
        """begin() or end()."""
        if so:
            self.begin(alarm, reason, campaign=campaign, by=by)
        else:
            self.end(alarm, campaign=campaign, by=by)

    def failed(self, error: Exception, by: str) -> None:
        """What `by` does has failed by this; an earlier failure of another service is over."""
        found = {alarm for kind, alarm in SERVICES.items() if isinstance(error, kind)}
        for alarm in SERVICES.values():
            self.when(alarm in found, alarm, str(error), by=by)

    def leave(self, by: str) -> None:
        """All is well as far as `by` sees, or it looks no more."""
        for alarm, campaigns in self._seen.items():
            for campaign, who in list(campaigns.items()):
                if by in who:
                    self.end(alarm, campaign=campaign, by=by)

    def only(self, alarm: Alarm, reasons: Mapping[str, str], *, by: str = "") -> None:
        """It is so for these campaigns, each with its reason, and for no other that `by` saw."""
        for campaign, who in list(self._seen.get(alarm, {}).items()):
            if by in who and campaign not in reasons:
                self.end(alarm, campaign=campaign, by=by)
        for campaign, reason in reasons.items():
            self.begin(alarm, reason, campaign=campaign, by=by)

    def is_on(self, alarm: Alarm, campaign: str | None = None) -> bool:
        """Whether it is so now, for this campaign or for any."""
        campaigns = self._seen.get(alarm, {})
        return bool(campaigns) if campaign is None else campaign in campaigns

    def tick(self) -> None:
        """End what ends by itself."""
        now_ms = self._clock.monotonic_ms()
        for alarm, campaigns in self._seen.items():
            for campaign, who in list(campaigns.items()):
                for by, until_ms in list(who.items()):
                    if until_ms and until_ms <= now_ms:
                        self.end(alarm, campaign=campaign, by=by)

    @asynccontextmanager
    async def ticking(self) -> AsyncIterator[None]:
        """tick() twice a second inside the block."""

        async def run() -> None:
            while True:
                self.tick()
                await asyncio.sleep(TICK_MS / 1000)

        task = asyncio.create_task(run(), name="alarms")
        try:
            yield
        finally:
            await end([task])

    def rows(self) -> list[tuple[str, list[str], int]]:
        """What they are as metrics; may be asked from any thread."""
        found: list[tuple[str, list[str], int]] = []
        for alarm, count in self._begun.copy().items():
            found.append(("flashgrab_alarm", [alarm.anchor], int(bool(self._seen.get(alarm)))))
            found.append(("flashgrab_alarms_begun", [alarm.anchor], count))
        return found

    def _may_say(self, alarm: Alarm, now_ms: int) -> bool:
        """Whether the bound of lines leaves one; the last of them says that it is the last."""
        since_ms, lines = self._lines.get(alarm, (now_ms, 0))
        if now_ms - since_ms >= LINES_MS:
            since_ms, lines = now_ms, 0
        self._lines[alarm] = since_ms, lines + 1
        if lines == LINES_MAX:
            log.error("alarm_lines_held_back", alarm=alarm.anchor, for_ms=LINES_MS)
        return lines < LINES_MAX


def _fields(alarm: Alarm, campaign: str) -> dict[str, str]:
    fields = {"alarm": alarm.anchor, "runbook": alarm.runbook, "means": alarm.value.words}
    return fields | ({"campaign": campaign} if campaign else {})
