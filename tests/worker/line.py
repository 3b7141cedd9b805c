"""The whole way of a fact on real servers, for tests: grants by the real script, the real relay,
worker and walker as objects that a test starts, stops and breaks where it wants.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from flashgrab import keys, scripts
from flashgrab.broker import Producer, Record, TopicLog, ensure_topics
from flashgrab.clock import SystemClock
from flashgrab.errors import StoreUnavailable
from flashgrab.events import OutboxEntry
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.role import Role
from flashgrab.model import Round
from flashgrab.state import Returning
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from worker.audit import Audit, Report
from worker.confirm import Confirmation
from worker.dead import DeadLetters
from worker.live_audit import LiveAudit
from worker.persist import Persist
from worker.relay import Relay
from worker.signals import end_all
from worker.steps import Hook, Step, go_on
from worker.topics import TOPICS
from worker.walker import Walker
from worker.watermark import Watermark

WITHIN_S = 60.0
SESSION_MS = 1000
"""The embedded broker waits half of it at each join."""
HOUR_MS = 3_600_000


class Crash(Exception):
    """What a hook raises: the process is gone at this very step."""


async def until(condition: Callable[[], Awaitable[Any]], within_s: float = WITHIN_S) -> Any:
    """Wait until the condition gives something true, and return that."""
    ends = time.monotonic() + within_s
    while not (found := await condition()):
        assert time.monotonic() < ends, f"not true within {within_s} s"
        await asyncio.sleep(0.01)
    return found


def crash_at(step: Step, times: int = 1) -> Hook:
    """A hook that crashes the first `times` times that the step comes."""
    left = times

    async def hook(here: Step) -> None:
        nonlocal left
        if here == step and left > 0:
            left -= 1
            raise Crash(step)

    return hook


@dataclass
class Line:
    """One stack, empty at the start of a test."""

    redis_url: str
    bootstrap: str
    postgres_url: str
    clock: SystemClock = field(default_factory=SystemClock)
    metrics: Metrics = field(default_factory=Metrics)

    def __post_init__(self) -> None:
        self.store = Store(self.redis_url)
        self.pool = Pool(self.postgres_url, 8)
        self._stack = AsyncExitStack()

    async def close(self) -> None:
        await self._stack.aclose()
        await self.pool.close()
        await self.store.close()

    # -- campaigns and grants --------------------------------------------------------------------

    async def publish(
        self, campaign_id: str, *quotas: int, per_user: int = 1, per_device: int = 0
    ) -> None:
        """A campaign with rounds one after the other, the first one open."""
        now_ms = await self.store.now_ms()
        rounds = [
            Round(n, now_ms + (n - 1) * HOUR_MS, now_ms + n * HOUR_MS, quota)
            for n, quota in enumerate(quotas or (1000,), 1)
        ]
        definition = {"id": campaign_id, "name": campaign_id}
        await self.sql(
            "INSERT INTO campaigns (campaign_id, definition, status, version, applied_version,"
            " per_user, per_device, operation, created_ms)"
            " VALUES ($1, $2, 'PUBLISHED', 1, 1, $3, $4, $5, $6)",
            campaign_id,
            json.dumps(definition),
            per_user,
            per_device,
            f"publish-{campaign_id}",
            now_ms,
        )
        for r in rounds:
            await self.sql(
                "INSERT INTO rounds (campaign_id, number, opens_at, closes_at, quota)"
                " VALUES ($1, $2, $3, $4, $5)",
                campaign_id,
                r.number,
                r.opens_at,
                r.closes_at,
                r.quota,
            )
        await self.store.publish(
            campaign_id,
            run=await self.store.run_id(),
            version=1,
            operation=f"publish-{campaign_id}",
            definition=definition,
            per_user=per_user,
            per_device=per_device,
            rounds=rounds,
        )
        await self.store.register(campaign_id)

    async def grab(
        self,
        campaign_id: str,
        requests: Iterable[tuple[str, str, str]],
        *,
        run: str | None = None,
        floor: int = 0,
        epoch: int | None = None,
        script: scripts.Script = scripts.GRAB,
    ) -> list[Any]:
        """One call of grab.lua with (user, device, request id) each; its whole reply."""
        state = await self.store.read(campaign_id)
        assert state is not None
        first, last = state.rounds[0], state.rounds[-1]
        touched = [
            keys.campaign(campaign_id),
            keys.holders(campaign_id),
            keys.devices(campaign_id),
            keys.outbox(campaign_id),
            keys.round_(campaign_id, 1),
            keys.round_(campaign_id, 2 if len(state.rounds) > 1 else 1),
        ]
        run = run or await self.store.run_id()
        args: list[Any] = [state.schema, epoch or state.epoch, run, floor, 1, 0, last.closes_at]
        assert first.opens_at <= last.closes_at
        for request in requests:
            args += request
        reply: list[Any] = await self.store.run(script, touched, args)
        return reply

    async def grant(self, campaign_id: str, users: int, start: int = 0, batch: int = 10) -> None:
        """So many users take a coupon each."""
        for at in range(start, start + users, batch):
            some = range(at, min(at + batch, start + users))
            reply = await self.grab(campaign_id, [(f"u{n}", f"d{n}", f"k{n}") for n in some])
            assert reply[0] == 0, reply
            assert all(isinstance(r, int) and r > 0 for r in reply[7:]), reply

    async def give_back(self, campaign_id: str, *serials: int) -> None:
        """These grants come back, as the centre's loop brings them."""
        rows = await self.sql(
            "UPDATE coupons SET state = 'RETURNED' WHERE campaign_id = $1 AND serial = ANY($2)"
            " RETURNING serial, round, user_id, device_id",
            campaign_id,
            list(serials),
        )
        assert len(rows) == len(serials), "only what is persisted comes back"
        grants = [Returning(*row) for row in sorted(rows, key=lambda row: serials.index(row[0]))]
        _, codes = await self.store.give_back(campaign_id, 1, 0, grants)
        assert codes == [0] * len(serials)

    async def again(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """A call right after a restart of Redis: connections of before break when they are used."""

        async def answered() -> tuple[Any] | None:
            try:
                return (await call(),)
            except StoreUnavailable:
                return None

        return (await until(answered))[0]

    async def confirmed(self, campaign_id: str, seq_min: int) -> None:
        """Confirm the server that has come back, which knows every fact up to this seq."""
        run = await self.again(self.store.run_id)
        await self.again(lambda: self.store.confirm(campaign_id, 1, seq_min, run))
        await self.again(lambda: self.store.read(campaign_id))

    # -- what is where ---------------------------------------------------------------------------

    async def sql(self, query: str, *args: Any) -> list[asyncpg.Record]:
        async with self.pool.connection() as connection:
            rows: list[asyncpg.Record] = await connection.fetch(query, *args)
            return rows

    async def facts(self, campaign_id: str) -> list[tuple[Any, ...]]:
        """Every fact as the holders in Redis have it, in seq order."""
        found = []
        async for user_id, entry in self.store.holders(campaign_id):
            for part in entry.split(";")[:-1]:
                serial, seq, number, _, request_id = part.split(",")
                found.append((int(seq), int(serial), int(number), user_id, request_id))
        return sorted(found)

    async def rows(self, campaign_id: str) -> list[tuple[Any, ...]]:
        """Every row of the ledger, in seq order, in the same form."""
        rows = await self.sql(
            "SELECT seq, serial, round, user_id, request_id FROM coupons WHERE campaign_id = $1"
            " ORDER BY seq, serial",
            campaign_id,
        )
        return [tuple(row) for row in rows]

    async def watermark(self, campaign_id: str) -> int:
        rows = await self.sql(
            "SELECT watermark FROM watermarks WHERE campaign_id = $1", campaign_id
        )
        return rows[0]["watermark"] if rows else 0

    async def outbox(self, campaign_id: str) -> list[int]:
        """Last seqs of the entries that wait in the outbox."""
        return [e.last_seq for e in await self.store.outbox(campaign_id, 0, entries_max=100_000)]

    async def dead(self) -> list[tuple[str, str | None, int | None]]:
        rows = await self.sql("SELECT reason, campaign_id, seq FROM dead ORDER BY reason, seq")
        return [tuple(row) for row in rows]

    async def persisted(self, campaign_id: str, count: int) -> None:
        """Wait for so many rows."""

        async def there() -> bool:
            return len(await self.rows(campaign_id)) >= count

        await until(there)

    async def settled(self, campaign_id: str, seq: int) -> None:
        """Wait until Redis knows that the ledger has everything up to `seq`."""

        async def there() -> bool:
            standing = (await self.store.standings([campaign_id])).get(campaign_id)
            return standing is not None and standing.watermark >= seq

        await until(there)

    async def assert_exact(self, campaign_id: str) -> None:
        """The ledger holds exactly the facts of Redis, once each, and counts them right."""
        facts = await self.facts(campaign_id)
        assert await self.rows(campaign_id) == facts
        counted = await self.sql(
            "SELECT sum(granted)::bigint AS n FROM rounds WHERE campaign_id = $1", campaign_id
        )
        assert counted[0]["n"] == len(facts)

    # -- the parts -------------------------------------------------------------------------------

    def relay(self, hook: Hook = go_on, **more: Any) -> Relay:
        more = {"poll_ms": 100, "deadline_ms": 2000, **more}
        return Relay(self.store, self.bootstrap, self.clock, self.metrics, hook=hook, **more)

    def persist(self, hook: Hook = go_on, **more: Any) -> Persist:
        return Persist(
            self.pool,
            self.bootstrap,
            self.clock,
            self.metrics,
            hook=hook,
            session_timeout_ms=SESSION_MS,
            **more,
        )

    def topic_log(self) -> TopicLog:
        log = TopicLog(self.bootstrap, keys.GRABS_TOPIC, deadline_ms=1000)
        self._stack.push_async_callback(log.stop)
        return log

    def mark(self, hook: Hook = go_on, **more: Any) -> Watermark:
        return Watermark(
            self.pool, self.store, self.topic_log(), self.clock, self.metrics, hook=hook, **more
        )

    def confirmation(self, **more: Any) -> Confirmation:
        return Confirmation(
            self.pool, self.store, self.topic_log(), self.clock, self.metrics, **more
        )

    def live_audit(self, **more: Any) -> LiveAudit:
        more = {"idle_ms": 0, **more}
        return LiveAudit(self.pool, self.store, self.clock, self.metrics, **more)

    def walker(
        self, *, hole_ms: int = 300, hook: Hook = go_on, metrics: Metrics | None = None
    ) -> Walker:
        log, metrics = self.topic_log(), metrics or self.metrics
        return Walker(
            Role(self.postgres_url),
            Watermark(self.pool, self.store, log, self.clock, metrics, hook=hook, hole_ms=hole_ms),
            Confirmation(self.pool, self.store, log, self.clock, metrics),
            DeadLetters(self.pool, self.bootstrap, self.clock),
            LiveAudit(self.pool, self.store, self.clock, metrics, idle_ms=0),
            log,
            metrics.alarms,
            survey_ms=100,
            audit_ms=100,
        )

    @asynccontextmanager
    async def running(self, *parts: Any) -> AsyncIterator[list["asyncio.Task[None]"]]:
        """The parts as tasks for the block; one that ends by itself fails the test, unless by
        Crash."""
        tasks = [asyncio.create_task(part.run()) for part in parts]
        try:
            yield tasks
        finally:
            for part in parts:
                part.stop()
            await end_all(tasks, 5000)
            ended = await asyncio.gather(*tasks, return_exceptions=True)
            for how in ended:
                if isinstance(how, Exception) and not isinstance(how, Crash):
                    raise how  # rather than what the block waited for in vain

    async def run_to_crash(self, part: Any) -> None:
        """Run a part until its hook crashes it."""
        async with asyncio.timeout(WITHIN_S):
            try:
                await part.run()
            except Crash:
                return
        raise AssertionError("the part ended without the crash: its step was never reached")

    async def send(self, *messages: tuple[bytes, bytes]) -> None:
        """Messages of any kind on flashgrab.grabs."""
        await ensure_topics(self.bootstrap, TOPICS)
        producer = Producer(self.bootstrap, keys.GRABS_TOPIC)
        await producer.start()
        try:
            now_ms = self.clock.now_ms()
            await producer.publish([Record(key, value, [], now_ms) for key, value in messages])
        finally:
            await producer.stop()

    async def audit(self, campaign_id: str | None = None, drain_ms: int = 0) -> Report:
        return await Audit(self.pool, self.store, self.clock).run(campaign_id, drain_ms)

    async def book(self, campaign_id: str) -> None:
        """Put every fact into the ledger by hand, in a moment and without the parts."""
        now_ms = self.clock.now_ms()
        devices = {
            fact.serial: fact.device_id
            for entry in await self.store.outbox(campaign_id, 0, entries_max=100_000)
            for fact in entry_of(entry).facts(campaign_id)
        }
        facts = await self.facts(campaign_id)
        rows = [
            (campaign_id, serial, seq, user, devices[serial], number, request, 1, now_ms)
            for seq, serial, number, user, request in facts
        ]
        async with self.pool.connection() as connection:
            await connection.executemany(
                "INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round,"
                " request_id, epoch, granted_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
                rows,
            )
        await self.sql(
            "UPDATE rounds r SET granted = (SELECT count(*) FROM coupons c"
            " WHERE c.campaign_id = r.campaign_id AND c.round = r.number) WHERE campaign_id = $1",
            campaign_id,
        )
        await self.sql("INSERT INTO watermarks VALUES ($1, $2, $3)", campaign_id, len(rows), now_ms)
        assert await self.store.settle(campaign_id, 1, len(rows), "") == 0

    async def deliver(self, campaign_id: str, count: int) -> None:
        """Run everything until `count` facts are in the ledger and settled."""
        async with self.running(self.relay(), self.persist(), self.walker()):
            await self.persisted(campaign_id, count)
            await self.settled(campaign_id, count)


def entry_of(value: Any) -> OutboxEntry:
    """An outbox entry that is not torn."""
    assert isinstance(value, OutboxEntry)
    return value
