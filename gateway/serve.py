"""Runs the gateway: one process, or a parent that shares the port among several."""

import asyncio
import contextlib
import gc
import json
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn
from starlette.applications import Starlette

from flashgrab.alarms import Alarm
from flashgrab.recent import Own
from flashgrab.settings import PROXY_V2, GatewaySettings, load
from flashgrab.telemetry import Metrics, configure_logs, serve_metrics
from flashgrab.tracing import tracing
from gateway.app import make_app
from gateway.family import Family
from gateway.front import fronted
from gateway.lane import Lane
from gateway.proxied import Proxied
from gateway.reports import COUNTS_MS, RECENT, Reporter, taken
from gateway.risk.rules import RulesInvalid, load_rules
from gateway.tls import Certificate

if TYPE_CHECKING:
    from gateway.traced import Traces

BACKLOG = 4096
KEEP_ALIVE_S = 75
"""Buyers connect before the opening: a connection made anew in that second is a dear one."""
DRAIN_S = 5
"""At least; longer where the deadline of requests is."""
RESPAWN_PAUSE_S = 0.2
GC_OBJECTS = 5000
FILES_MAX = 1 << 20
"""A connection is an open file. The usual soft limit, 1,024, is there for select(2)."""

log = structlog.get_logger()


def listen(host: str, port: int) -> socket.socket:
    """The public socket. Raises OSError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock


def serve(settings: GatewaySettings, processes: int) -> int:
    """Run until SIGTERM or SIGINT, drain, return the exit status."""
    configure_logs("gateway", settings.log_json)
    open_files()
    metrics = Metrics()
    if settings.risk_rules:
        try:
            load_rules(settings.risk_rules)
        except RulesInvalid as error:
            print(f"FLASHGRAB_RISK_RULES: {error}", file=sys.stderr)
            return 2
    try:
        certificate_of(settings, metrics)
    except (OSError, ValueError) as error:
        print(f"the certificate of FLASHGRAB_TLS_CERT can't be used: {error}", file=sys.stderr)
        return 2
    try:
        sock = listen(settings.host, settings.port)
    except OSError as error:
        return _cannot_listen(settings.host, settings.port, "FLASHGRAB_PORT", error)
    parent = _Parent(sock, processes) if processes > 1 else None
    snapshot = parent.snapshot if parent else metrics.snapshot
    say = parent.family.say if parent else Own("gateway", metrics).say
    try:
        host = settings.metrics_host
        metrics_port = serve_metrics(settings.metrics_port, snapshot, host, say)
    except OSError as error:
        sock.close()
        host = settings.metrics_host
        return _cannot_listen(host, settings.metrics_port, "FLASHGRAB_METRICS_PORT", error)
    port = sock.getsockname()[1]
    log.info("gateway_starts", host=settings.host, port=port, metrics_port=metrics_port)
    if parent:
        return asyncio.run(parent.run())
    run_process(settings, sock, metrics)
    return 0


def protocol_of(
    settings: GatewaySettings, certificate: Certificate | None, traces: "Traces | None" = None
) -> Any:
    """What uvicorn makes for a connection: the bare lane, unless a setting asks for more."""
    header = settings.proxies_say == PROXY_V2
    inner: type[Lane] = Proxied if settings.trusted_proxies and not header else Lane
    if traces is not None:
        inner = traces.declining(inner)
    if certificate or (header and settings.trusted_proxies):
        return fronted(inner, certificate, header=header)
    return inner


def certificate_of(settings: GatewaySettings, metrics: Metrics) -> Certificate | None:
    """Raises what Certificate does."""
    if not settings.tls_cert:
        return None
    return Certificate(settings.tls_cert, settings.tls_key, metrics.alarms)


def open_files() -> None:
    """As many as this process may have; its children inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower bound than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _cannot_listen(host: str, port: int, variable: str, error: OSError) -> int:
    why = f"cannot listen on {host}:{port}: {error.strerror}"
    print(f"{why}; stop what uses it, or set {variable}", file=sys.stderr)
    return 2


def run_process(
    settings: GatewaySettings, sock: socket.socket, metrics: Metrics, app: Starlette | None = None
) -> None:
    """Serve on a listening socket until a signal, then answer what is in flight."""
    with tracing(settings.traces_url, "gateway") as tracer:
        traces = None
        if tracer is not None:
            from gateway.traced import Sampler, Traces

            traces = Traces(tracer, Sampler(settings.traces_every))
        _run(settings, sock, app or make_app(settings, metrics, traces=traces), metrics, traces)


def _run(
    settings: GatewaySettings,
    sock: socket.socket,
    app: Starlette,
    metrics: Metrics,
    traces: "Traces | None",
) -> None:
    drain_s = max(DRAIN_S, settings.request_deadline_ms // 1000 + 1)
    certificate = certificate_of(settings, metrics)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http=protocol_of(settings, certificate, traces),
        callback_notify=certificate.follow if certificate else None,
        timeout_notify=0,  # each second, that is
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",  # its warnings are what clients send: a line each would be a flood
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=drain_s,
    )
    server = uvicorn.Server(config)

    def stop(*_: Any) -> None:
        server.should_exit = True

    # For the time before uvicorn's own handlers stand, and after: it raises the signal again.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # A request leaves a dozen small cycles (Starlette's closures). By default every 700 new objects
    # start a collection, now and then over everything imported: a tenth of the CPU of a grab.
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    server.run(sockets=[sock])


class _Parent:
    """Starts the processes, replaces a dead one, adds up their counters."""

    def __init__(self, sock: socket.socket, processes: int) -> None:
        self._sock = sock
        self._processes = processes
        self._gone = Metrics()
        self._own = Metrics()
        self._own.of("gateway")
        self._latest: dict[int, Metrics] = {}
        self._adding = threading.Lock()  # a scrape must not fall between the two
        self._stopping = asyncio.Event()
        self.family = Family(self._own, self.snapshot)

    async def run(self) -> int:
        """Until a signal; the children drain on their own SIGTERM."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        await asyncio.gather(self._close(), *map(self._keep, range(self._processes)))
        return 0

    async def _close(self) -> None:
        """Without this, what connects during the drain would wait for an answer for ever."""
        await self._stopping.wait()
        self._sock.close()

    def snapshot(self) -> dict[str, Any]:
        """The sum over the living, and the counters of the dead."""
        total = Metrics()
        with self._adding:
            total.merge(self._gone.snapshot())
            total.merge(self._own.snapshot())
            for latest in self._latest.values():
                total.merge(latest.snapshot())
        return total.snapshot()

    async def _keep(self, slot: int) -> None:
        while not self._stopping.is_set():
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "gateway", str(self._sock.fileno())),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                pass_fds=[self._sock.fileno()],
                limit=16 * 1024 * 1024,
                start_new_session=True,
            )
            stop = asyncio.create_task(self._stop_with_us(child))
            await self._read(child, slot)
            status = await child.wait()
            stop.cancel()
            self.family.gone(child.pid)
            with self._adding:
                if (last := self._latest.pop(child.pid, None)) is not None:
                    self._gone.merge(last.snapshot(), gauges=False)
            if not self._stopping.is_set():
                reason = f"pid {child.pid}, status {status}"
                self._own.alarms.begin(Alarm.PROCESS_DIED, reason, by=str(slot))
                await asyncio.sleep(RESPAWN_PAUSE_S)

    async def _stop_with_us(self, child: asyncio.subprocess.Process) -> None:
        await self._stopping.wait()
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)

    async def _read(self, child: asyncio.subprocess.Process, slot: int) -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            if not line.endswith(b"\n"):
                return  # killed in the middle of a line
            report, before = json.loads(line), self._latest.get(child.pid)
            if (recent := report.pop(RECENT, None)) is not None:
                self.family.take(child.pid, recent)
                before = None
            with self._adding:
                self._latest[child.pid] = taken(before, report)
            self._own.alarms.end(Alarm.PROCESS_DIED, by=str(slot))


def child(fd: int) -> None:
    """One process of several: counters go to the parent by stdout, its end shows on stdin."""
    settings = load(GatewaySettings)
    configure_logs("gateway", settings.log_json)
    metrics = Metrics()
    out = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    reporter = Reporter(metrics, out)
    _every(COUNTS_MS / 1000, reporter.tick)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    run_process(settings, socket.socket(fileno=fd), metrics)
    with contextlib.suppress(OSError):
        reporter.whole()


def _every(seconds: float, step: Callable[[], None]) -> None:
    def loop() -> None:
        pause, said = threading.Event(), ""
        while not pause.wait(seconds):
            try:
                step()
            except BrokenPipeError:
                return  # the parent is gone
            except Exception as error:  # of one report: the next ones tell more than this one
                if repr(error) != said:
                    said = repr(error)
                    log.exception("report_failed")

    threading.Thread(target=loop, daemon=True).start()


def _end_with_parent() -> None:
    while os.read(0, 1):  # 0 bytes: the parent is gone
        pass
    os.kill(os.getpid(), signal.SIGTERM)
