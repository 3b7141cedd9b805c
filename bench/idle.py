"""Connections that are open and ask nothing, as those of buyers who wait for the opening, and what
they cost those who grab meanwhile.

Two gateways run, each with a Valkey of its own; only one has the idle connections. wrk asks them in
turns, so that what disturbs the machine disturbs both.
"""

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import wrk
from bench.books import publish
from bench.holders import MB, SETTLE_S, rss
from bench.passes import CAMPAIGN
from bench.processes import BadRun, Cores, machine_busy, require
from bench.requests import Requests
from bench.serving import Serving, serving
from bench.systems.ours import Ours

CAMPAIGNS = 100
ACTIVE = 256
QUOTA = 10_000_000
ASKING = (
    "GET /v1/campaigns/{campaign} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n"
    "User-Agent: Mozilla/5.0 (Linux; Android 14; Pixel 8) AppleWebKit/537.36\r\n\r\n"
)
ANSWER_BYTES_MAX = 65_536
LOOK_EACH = 100
_RESET = struct.pack("ii", 1, 0)  # closed without the minute in which its port is taken


@dataclass(frozen=True, slots=True)
class Load:
    """How it is measured."""

    idle: int
    rounds: int
    seconds: int
    fsync: str
    cores: Cores


@dataclass(frozen=True, slots=True)
class Active:
    """256 connections that grab, beside so many idle ones; `others` is what everything else on the
    machine used meanwhile, in cores."""

    round: int
    idle: int
    per_second: float
    server_us: float
    p50_ms: float
    p99_ms: float
    rss_mb: float
    others: float


@dataclass(frozen=True, slots=True)
class Connections:
    """The gateway's MB with its campaigns alone, then with idle connections; and all rounds."""

    campaigns: int
    start_mb: float
    idle_mb: float
    active: list[Active]


def measure(ours: Ours, folder: Path, load: Load) -> Connections:
    """All rounds. Raises BadRun."""
    requests = Requests(folder, ours.passes, load.seconds)
    names = [CAMPAIGN, *(f"other-{n}" for n in range(1, CAMPAIGNS))]
    files = [requests.file(f"W1-{n}") for n in range(1, load.rounds + 1)]
    samples: list[Active] = []
    with (
        serving(ours, load.fsync, QUOTA, load.cores) as alone,
        serving(ours, load.fsync, QUOTA, load.cores) as beside,
    ):
        for server in (alone, beside):
            for name in names[1:]:
                publish(server.ask, name, 1000)
            _drive(server, requests.file("warm"), 1, load.cores, again=True)
        time.sleep(SETTLE_S)
        start_mb = rss(beside) / MB
        with idle(beside.port, load.idle, names) as connections:
            idle_mb = rss(beside) / MB
            for number, file in enumerate(files, 1):
                turn = ((alone, 0), (beside, load.idle))
                for server, count in turn if number % 2 else turn[::-1]:
                    samples.append(_active(server, file, load, number, count))
                for connection in connections[number::LOOK_EACH]:
                    ask(connection, CAMPAIGN)  # it is still there
        assert ours.books is not None
        for server in (alone, beside):
            ours.books.check(server.ask, QUOTA)
    samples.sort(key=lambda s: (s.round, s.idle))
    return Connections(len(names), start_mb, idle_mb, samples)


def _active(server: Serving, file: Path, load: Load, number: int, count: int) -> Active:
    before, busy = server.read(), machine_busy()
    driver = wrk.cpu()
    seen = _drive(server, file, load.seconds, load.cores)
    after, busy = server.read(), machine_busy() - busy
    server.settled()
    used = (after.server - before.server).total
    ours = used + after.redis_s - before.redis_s + wrk.cpu() - driver
    return Active(
        round=number,
        idle=count,
        per_second=seen.requests / seen.seconds,
        server_us=used * 1e6 / seen.requests,
        p50_ms=seen.p50_us / 1000,
        p99_ms=seen.p99_us / 1000,
        rss_mb=rss(server) / MB,
        others=max(0.0, (busy - ours) / seen.seconds),
    )


def _drive(
    server: Serving, file: Path, seconds: int, cores: Cores, *, again: bool = False
) -> wrk.Figures:
    seen = wrk.drive(
        server.port, file, connections=ACTIVE, seconds=seconds, cores=cores.driver, again=again
    )
    require(seen.broken == 0 and seen.refused == 0, f"wrong answers: {seen}")
    return seen


@contextlib.contextmanager
def idle(port: int, count: int, campaigns: Sequence[str]) -> Iterator[list[socket.socket]]:
    """So many for the length of a block; each has asked for a campaign, and was answered."""
    opened: list[socket.socket] = []
    try:
        for number in range(count):
            connection = socket.create_connection(("127.0.0.1", port), 10)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            opened.append(connection)
            ask(connection, campaigns[number % len(campaigns)])
        yield opened
    except OSError as error:
        raise BadRun(f"connection {len(opened)} of {count}: {error}") from error
    finally:
        for connection in opened:
            connection.close()


def ask(connection: socket.socket, campaign: str) -> None:
    """One request. Raises BadRun where it is not answered with 200."""
    connection.sendall(ASKING.format(campaign=campaign).encode())
    answer = b""
    while not answer.endswith(b"}"):
        more = connection.recv(ANSWER_BYTES_MAX)
        if not more:
            break
        answer += more
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise BadRun(f"GET of {campaign} was answered with {answer[:200]!r}")
