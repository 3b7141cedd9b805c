"""Runs the worker as a process of its own: persist, and the walker beside it."""

import asyncio
from collections.abc import Awaitable, Callable

from flashgrab import keys
from flashgrab.broker import TopicLog
from flashgrab.clock import SystemClock
from flashgrab.ledger.migrate import wait_for_schema
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.role import Role
from flashgrab.recent import Own
from flashgrab.settings import WorkerSettings
from flashgrab.store import Store
from flashgrab.telemetry import Metrics, configure_logs, serve_metrics
from flashgrab.tracing import Tracer, tracing
from worker.collector import relax_collector
from worker.confirm import Confirmation
from worker.dead import DeadLetters
from worker.live_audit import LiveAudit
from worker.persist import Persist
from worker.signals import run_until_signal
from worker.steps import Hook, go_on
from worker.walker import Walker
from worker.watermark import Watermark

POOL_SIZE = 6
"""One connection each for persist and the walker's duties."""
SILENT_MS = 10_000
"""Past it worker and PostgreSQL give each other up: the longest that one of them that is silent can
hold up the ledger. A transaction's commands take far less, on a slow disk too."""


async def run(
    settings: WorkerSettings, hook: Hook = go_on, make_persist: type[Persist] = Persist
) -> int:
    """Until SIGTERM or SIGINT; then the transaction in flight is finished. Returns the status."""
    with tracing(settings.traces_url, "worker") as tracer:
        return await _run(settings, hook, make_persist, tracer)


async def _run(
    settings: WorkerSettings, hook: Hook, make_persist: type[Persist], tracer: Tracer | None
) -> int:
    configure_logs("worker", settings.log_json)
    relax_collector()
    metrics, clock = Metrics(), SystemClock()
    metrics.of("worker")
    say = Own("worker", metrics).say
    serve_metrics(settings.metrics_port, metrics.snapshot, settings.metrics_host, say)
    pool = Pool(settings.postgres_url, POOL_SIZE, command_s=SILENT_MS / 1000, idle_ms=SILENT_MS)
    topic_log = TopicLog(settings.kafka_bootstrap, keys.GRABS_TOPIC, deadline_ms=1000)
    async with (
        Store(settings.redis_url, took=metrics.script_took) as store,
        metrics.alarms.ticking(),
    ):
        persist = make_persist(
            pool,
            settings.kafka_bootstrap,
            clock,
            metrics,
            hook=hook,
            session_timeout_ms=settings.kafka_session_timeout_ms,
            name=settings.worker_name,
            tracer=tracer,
        )
        walker = Walker(
            Role(settings.postgres_url),
            Watermark(pool, store, topic_log, clock, metrics, hook=hook),
            Confirmation(pool, store, topic_log, clock, metrics),
            DeadLetters(pool, settings.kafka_bootstrap, clock),
            LiveAudit(pool, store, clock, metrics),
            topic_log,
            metrics.alarms,
        )
        schema = asyncio.create_task(wait_for_schema(pool, metrics.alarms), name="schema")

        async def once_there(run: Callable[[], Awaitable[None]]) -> None:
            await asyncio.wait({schema})
            if not schema.cancelled():
                schema.result()
                await run()

        def stop() -> None:
            schema.cancel()
            persist.stop()
            walker.stop()

        try:
            await run_until_signal((once_there(persist.run), stop), (once_there(walker.run), stop))
        finally:
            await pool.close()
    return 0
