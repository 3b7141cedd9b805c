"""Puts the centre together: what is shared, what starts and stops with the process."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware

from centre.apply import Applier
from centre.caller import Staff
from centre.console.asking import Asker
from centre.console.books import Books
from centre.console.console import Console, run_file
from centre.console.keeper import Keeper
from centre.console.view_link import ViewLinks
from centre.lists import Lists
from centre.problems import Problem
from centre.rebuild import Rebuilder
from centre.refusals import answered
from centre.request_ids import RequestIds
from centre.routes import Centre, State, routes
from flashgrab import keys
from flashgrab.alarms import Alarm, Alarms
from flashgrab.broker import TopicLog
from flashgrab.clock import Clock, SystemClock
from flashgrab.errors import FlashgrabError, LedgerUnavailable
from flashgrab.ledger.migrate import WAITING, SchemaNewer, migrate
from flashgrab.ledger.operations import Operations
from flashgrab.ledger.pool import Pool
from flashgrab.segments import SegmentKey
from flashgrab.settings import CentreSettings
from flashgrab.store import Store
from flashgrab.tasks import end
from flashgrab.telemetry import Metrics

MIGRATE_PAUSE_S = 0.5
KAFKA_MS = 2000

log = structlog.get_logger()


def make_app(
    settings: CentreSettings,
    *,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    reached: Callable[[str], None] = lambda _step: None,
    cannot_go_on: Callable[[str], None] = lambda _why: None,
    is_stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """The centre as an ASGI application; it connects when its lifespan starts.

    It serves from the first moment, also while PostgreSQL is still away: /readyz says so.
    `cannot_go_on` is called where the ledger belongs to a newer release. `reached`: see Applier.
    `is_stopping` ends the streams of pages, which have no end of their own.
    """

    metrics = metrics or Metrics()
    alarms = metrics.alarms
    metrics.of("centre")

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        now = clock or SystemClock()
        pool, store = (
            Pool(settings.postgres_url),
            Store(settings.redis_url, took=metrics.script_took),
        )
        apart = Pool(settings.postgres_url)  # a rebuild holds some of its connections for long
        shown = Pool(settings.postgres_url)  # for the console, which must not hold up management
        topic_log = None
        if settings.kafka_bootstrap:
            topic_log = TopicLog(settings.kafka_bootstrap, keys.GRABS_TOPIC, deadline_ms=KAFKA_MS)
        centre = Centre(
            pool=pool,
            store=store,
            clock=now,
            operations=Operations(pool, now),
            applier=Applier(
                pool, store, schema=settings.campaign_schema, alarms=alarms, reached=reached
            ),
            rebuilder=Rebuilder(
                apart,
                store,
                topic_log,
                now,
                reached,
                schema=settings.campaign_schema,
                alarms=alarms,
            ),
            staff=Staff(
                pool,
                now,
                settings.admin_token,
                origin=settings.centre_url.rstrip("/"),
                secure=settings.behind_tls,
                sign_in=settings.signs_in,
            ),
            lists=Lists(pool, store, now),
            segment_key=SegmentKey.parse(settings.segment_key) if settings.segment_key else None,
            console=Console(
                Asker(run_file(settings.data), settings.metrics_urls, now),
                Books(shown, store),
                Keeper(shown, now),
                now,
            ),
            view_links=ViewLinks(pool, settings.admin_token),
            is_stopping=is_stopping,
        )
        loops: list[asyncio.Task[None]] = []
        starting = _start(centre, settings, alarms, cannot_go_on, loops)
        start = asyncio.create_task(starting, name="start")
        try:
            async with alarms.ticking():
                yield {"centre": centre}
        finally:
            await end([start])
            await end(loops)
            await centre.console.stop()
            if topic_log is not None:
                await topic_log.stop()
            await store.close()
            await pool.close()
            await apart.close()
            await shown.close()

    app = Starlette(
        routes=routes(),
        middleware=[Middleware(RequestIds)],
        exception_handlers=dict.fromkeys(
            (Problem, FlashgrabError, HTTPException, Exception), answered
        ),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _start(
    centre: Centre,
    settings: CentreSettings,
    alarms: Alarms,
    cannot_go_on: Callable[[str], None],
    loops: list["asyncio.Task[None]"],
) -> None:
    """The ledger's schema first, then the loops that bring Redis to the ledger's target."""
    while True:
        try:
            await migrate(settings.postgres_url)
        except LedgerUnavailable as error:
            alarms.failed(error, WAITING)
        except SchemaNewer as error:
            cannot_go_on(str(error))
            return
        except Exception as error:
            if not alarms.is_on(Alarm.MIGRATION_FAILED):
                log.exception("migration_failed", runbook=Alarm.MIGRATION_FAILED.runbook)
            alarms.begin(Alarm.MIGRATION_FAILED, repr(error), by=WAITING)
        else:
            break
        await asyncio.sleep(MIGRATE_PAUSE_S)
    alarms.leave(WAITING)
    centre.migrated = centre.staff.migrated = True
    # not a TaskGroup: it cancels its tasks once only, which flashgrab/tasks.py says is not enough
    loops.append(asyncio.create_task(centre.applier.run(), name="applier"))
    loops.append(asyncio.create_task(centre.rebuilder.run(), name="rebuilder"))
    loops.append(asyncio.create_task(centre.lists.run(), name="lists"))
    centre.console.start()
