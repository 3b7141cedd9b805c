"""Runs the relay as a process of its own."""

from flashgrab.clock import SystemClock
from flashgrab.recent import Own
from flashgrab.settings import RelaySettings
from flashgrab.store import Store
from flashgrab.telemetry import Metrics, configure_logs, serve_metrics
from flashgrab.tracing import tracing
from worker.collector import relax_collector
from worker.relay import Relay
from worker.signals import run_until_signal
from worker.steps import Hook, go_on


async def run(settings: RelaySettings, hook: Hook = go_on, make_relay: type[Relay] = Relay) -> int:
    """Until SIGTERM or SIGINT; then the round in flight is finished. Returns the exit status."""
    configure_logs("relay", settings.log_json)
    relax_collector()
    metrics = Metrics()
    metrics.of("relay")
    say = Own("relay", metrics).say
    serve_metrics(settings.metrics_port, metrics.snapshot, settings.metrics_host, say)
    with tracing(settings.traces_url, "relay") as tracer:
        async with (
            Store(settings.redis_url, took=metrics.script_took) as store,
            metrics.alarms.ticking(),
        ):
            relay = make_relay(
                store,
                settings.kafka_bootstrap,
                SystemClock(),
                metrics,
                hook=hook,
                name=settings.relay_name,
                tracer=tracer,
            )
            await run_until_signal((relay.run(), relay.stop))
    return 0
