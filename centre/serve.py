"""Runs the centre: one process, until SIGTERM or SIGINT."""

import signal
import socket
import sys

import structlog
import uvicorn

from centre.app import make_app
from flashgrab.recent import Own
from flashgrab.setting_forms import is_loopback
from flashgrab.settings import CentreSettings
from flashgrab.telemetry import Metrics, configure_logs, serve_metrics

BACKLOG = 128
DRAIN_S = 5
PUBLIC = (
    "others reach the management calls: put TLS in front, name it in FLASHGRAB_CENTRE_URL, and"
    " keep it off the public network (docs/security.md)"
)

log = structlog.get_logger()


def run(settings: CentreSettings) -> int:
    """Serve, answer what is in flight after a signal, return the exit status.

    2 where the port is taken, or where the ledger belongs to a newer release.
    """
    configure_logs("centre", settings.log_json)
    problems: list[str] = []
    metrics = Metrics()

    def cannot_go_on(why: str) -> None:
        problems.append(why)
        server.should_exit = True

    config = uvicorn.Config(
        make_app(
            settings,
            metrics=metrics,
            cannot_go_on=cannot_go_on,
            is_stopping=lambda: server.should_exit,
        ),
        http="httptools",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)

    def stop(*_: object) -> None:
        server.should_exit = True

    # Before uvicorn takes the signals, one would be lost; it raises them again after its own
    # shutdown, when there is nothing left to do.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        sock = _listen(settings.host, settings.centre_port)
    except OSError as error:
        where = f"{settings.host}:{settings.centre_port}"
        print(f"cannot listen on {where}: {error.strerror}", file=sys.stderr)
        return 2
    with sock:
        host, say = settings.metrics_host, Own("centre", metrics).say
        metrics_port = serve_metrics(settings.metrics_port, metrics.snapshot, host, say)
        if not is_loopback(settings.host):
            log.warning("management_is_public", host=settings.host, why=PUBLIC)
        log.info("listening", port=sock.getsockname()[1], metrics_port=metrics_port)
        server.run(sockets=[sock])
    for why in problems:
        print(why, file=sys.stderr)
    return 2 if problems else 0


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return sock
