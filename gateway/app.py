"""Puts the gateway together: what is shared, what starts and stops with the process."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware

from flashgrab.alarms import Alarm
from flashgrab.clock import Clock, SystemClock
from flashgrab.errors import FlashgrabError
from flashgrab.links import LinkKeys
from flashgrab.passes import PassKeys
from flashgrab.receipts import ReceiptKeys
from flashgrab.replica import Replica
from flashgrab.scripts import GRAB, LIMIT
from flashgrab.segments import SegmentKey
from flashgrab.settings import GatewaySettings
from flashgrab.shop_tokens import ShopTokens
from flashgrab.state import GatewayReport
from flashgrab.store import Store
from flashgrab.tasks import end
from flashgrab.telemetry import Metrics
from flashgrab.wire import Wire
from gateway.call import Bounds
from gateway.campaigns import Catalogue
from gateway.captcha import Captcha
from gateway.cors import Cors
from gateway.cors import options as cors_options
from gateway.desk import Desk
from gateway.doors import Doors
from gateway.gateway import Gateway, State
from gateway.guard import Guard
from gateway.identity import Identity
from gateway.limiter import Limiter
from gateway.lists import Lists
from gateway.login_keys import LoginKeys
from gateway.memory import Memory
from gateway.pace import Pace
from gateway.proxies import Proxies
from gateway.ready import Ready
from gateway.redis_clock import RedisClock
from gateway.ring import Ring
from gateway.risk.rules import load_rules
from gateway.risk.score import Risk
from gateway.routes import ROUTES, failed, http_error
from gateway.watch import watch

if TYPE_CHECKING:
    from gateway.traced import Traces

REPORT_MS = 500
STEP_MS = 10
WARM_MS_MAX = 10_000
"""Between a Redis that answers and the first request: time to read all campaigns."""
AWAY_MS_MAX = 3000
"""Without Redis; then buyers are told 503, and /readyz says what is missing."""

log = structlog.get_logger()


def make_app(
    settings: GatewaySettings,
    metrics: Metrics,
    clock: Clock | None = None,
    wire: type[Wire] = Wire,
    traces: "Traces | None" = None,
) -> Starlette:
    """The gateway as an ASGI application; it connects when its lifespan starts."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[State]:
        async with running(settings, metrics, clock or SystemClock(), wire) as gateway:
            if traces is not None:
                gateway.make_batcher = traces.batcher
            yield {"gateway": gateway}

    outer = []
    if settings.cors_origins:
        outer.append(Middleware(CORSMiddleware, **cors_options(settings.cors_origins)))
    if traces is not None:
        outer.append(traces.middleware())
    app = Starlette(
        routes=ROUTES,
        middleware=outer,
        exception_handlers={
            HTTPException: http_error,
            FlashgrabError: failed,
            500: failed,
        },
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it would redirect to whatever Host a request names
    return app


@asynccontextmanager
async def running(
    settings: GatewaySettings, metrics: Metrics, clock: Clock, make_wire: type[Wire] = Wire
) -> AsyncIterator[Gateway]:
    """A gateway that is connected and follows the campaigns, until the block ends."""
    redis_clock = RedisClock(clock)
    report_due = asyncio.Event()

    def on_connect(run_id: str) -> None:
        metrics.add("flashgrab_redis_connects")
        log.info("redis_connected", run_id=run_id)
        report_due.set()

    def on_replica(is_away: bool, why: str) -> None:
        metrics.alarms.when(is_away, Alarm.REPLICA_MISSING, why)

    store = Store(settings.redis_url, took=metrics.script_took)
    catalogue = Catalogue(store, metrics)
    segment_key = SegmentKey.parse(settings.segment_key) if settings.segment_key else None
    wire = make_wire(settings.redis_url, (GRAB,), on_connect, redis_clock.observe)
    limits = None
    if settings.limiter_url:
        limits = Wire(settings.limiter_url, (LIMIT,), lambda _run_id: None, lambda _now_ms: None)
    bounds = Bounds(settings.batch_max, settings.queue_max, settings.request_deadline_ms)
    pace = Pace(settings.shed_wait_ms, bounds, clock, metrics)
    gateway = Gateway(
        bounds=bounds,
        pass_keys=PassKeys.parse(settings.pass_keys),
        link_keys=LinkKeys.parse(settings.pass_keys),
        identity=_identity(settings, metrics, clock),
        shop_tokens=ShopTokens.parse(settings.shop_tokens),
        receipt_keys=ReceiptKeys.parse(settings.receipt_key),
        demo=settings.demo,
        clock=clock,
        redis_clock=redis_clock,
        store=store,
        wire=wire,
        replica=Replica(settings.redis_url, on_replica),
        catalogue=catalogue,
        metrics=metrics,
        memory=Memory(store),
        desk=Desk(Cors(settings.cors_origins), clock, redis_clock),
        ready=Ready(redis_clock),
        limiter=Limiter(limits, settings.limiter_wait_ms, settings.queue_max, metrics),
        guard=_guard(settings, metrics),
        lists=Lists(store, catalogue, segment_key),
        doors=Doors(
            settings.connections_max,
            settings.connections_per_address,
            Proxies(settings.trusted_proxies, settings.proxies_say),
            metrics,
        ),
        pace=pace,
        page_origins=settings.cors_origins,
    )
    metrics.live["flashgrab_inflight"] = gateway.in_flight
    metrics.live["flashgrab_connections"] = lambda: gateway.doors.inside
    metrics.live["flashgrab_loop_late_seconds"] = lambda: pace.late_ms / 1000
    metrics.live["flashgrab_held_connections"] = lambda: pace.held
    metrics.of("gateway")
    ring = Ring(metrics, gateway.catalogue.lefts, clock)
    metrics.rows = ring.since
    wire.start()
    gateway.catalogue.start()
    gateway.lists.start()
    tasks = [
        asyncio.create_task(_report(gateway, report_due), name="report"),
        asyncio.create_task(ring.keep(), name="ring"),
    ]
    try:
        await gateway.limiter.start()
        if (login_keys := gateway.identity.file) is not None:
            await login_keys.look()
            tasks.append(asyncio.create_task(login_keys.follow(), name="login_keys"))
        await _warm(wire, gateway)
        tasks.append(asyncio.create_task(watch(gateway), name="watch"))
        tasks.append(asyncio.create_task(pace.keep(gateway.batchers), name="pace"))
        yield gateway
    finally:
        await end(tasks)
        await gateway.memory.stop()
        await gateway.lists.stop()
        await gateway.catalogue.stop()
        await gateway.replica.stop()
        await gateway.limiter.stop()
        await gateway.guard.close()
        await wire.stop()
        await store.close()


def _guard(settings: GatewaySettings, metrics: Metrics) -> Guard:
    risk = Risk(load_rules(settings.risk_rules)) if settings.risk_rules else None
    captcha = None
    if settings.captcha_verify_url:
        captcha = Captcha(
            settings.captcha_verify_url, settings.captcha_secret, settings.captcha_timeout_ms
        )
    keys = PassKeys.parse(settings.pass_keys)
    return Guard(keys, metrics, risk, captcha, settings.captcha_site_key)


def _identity(settings: GatewaySettings, metrics: Metrics, clock: Clock) -> Identity:
    path = settings.identity_jwks
    return Identity(
        settings.identity_key,
        settings.identity_audience,
        settings.identity_issuer,
        clock,
        settings.identity_key_old,
        LoginKeys(Path(path), metrics.alarms) if path else None,
    )


async def _warm(wire: Wire, gateway: Gateway) -> None:
    """Nothing is accepted before this ends: other processes of the port may be warm already."""
    away_ms = 0
    for _ in range(WARM_MS_MAX // STEP_MS):
        connected = wire.connected.is_set()
        if connected and gateway.catalogue.loaded and gateway.lists.loaded:
            return
        away_ms += 0 if connected else STEP_MS
        if away_ms > AWAY_MS_MAX:
            return
        await asyncio.sleep(STEP_MS / 1000)


async def _report(gateway: Gateway, due: asyncio.Event) -> None:
    """Tell the worker this process' floors, so that a restarted Redis is confirmed past them."""
    gateway_id = secrets.token_hex(8)
    while True:
        due.clear()
        if any(c.state is not None and c.state.waits_for_replica for c in gateway.catalogue):
            gateway.replica.start()  # so that a missing one is known before the sale opens
        if gateway.wire.run_id:
            floors = {c.campaign_id: c.floor for c in gateway.catalogue}
            report = GatewayReport(gateway.wire.run_id, gateway.redis_clock.now_ms(), floors)
            try:
                await gateway.store.report_gateway(gateway_id, report)
            except FlashgrabError as error:
                log.debug("report_failed", error=str(error))
        try:
            async with asyncio.timeout(REPORT_MS / 1000):
                await due.wait()
        except TimeoutError:
            continue
