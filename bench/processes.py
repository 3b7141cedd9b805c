"""Child processes of a benchmark: pinned alike, measured, and stopped by their own handle."""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
START_S = 60.0
FILES_MAX = 16_384


class BadRun(Exception):
    """A run that measures nothing: a part did not start, or an answer or a book is wrong."""


def require(kept: bool, what: str) -> None:
    """Raise BadRun unless something is kept."""
    if not kept:
        raise BadRun(what)


@dataclass(frozen=True, slots=True)
class Cores:
    """Which cores each role gets; the same for every system of a run. Empty: not pinned."""

    server: frozenset[int]
    redis: frozenset[int]
    driver: frozenset[int]

    def __str__(self) -> str:
        if not self.server:
            return "not pinned"
        roles = {"server": self.server, "Valkey": self.redis, "generator": self.driver}
        return ", ".join(f"{role} on core {min(cores)}" for role, cores in roles.items())


def share_cores() -> Cores:
    """The server alone on one core; Valkey and generator on the next, or on one each."""
    found = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(found) < 2:
        return Cores(frozenset(), frozenset(), frozenset())
    third = found[min(2, len(found) - 1)]
    return Cores(frozenset({found[0]}), frozenset({found[1]}), frozenset({third}))


@contextlib.contextmanager
def pinned(cores: Collection[int]) -> Iterator[None]:
    """What is started in this block, with all its threads, stays on these cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def running(
    command: Sequence[str],
    env: Mapping[str, str],
    log: Path,
    cores: Collection[int],
    stop_s: float = 10.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A child for the length of a block: SIGTERM at its end, SIGKILL if that does not do."""
    with log.open("ab") as output, pinned(cores):
        child = subprocess.Popen(
            command, env=dict(env), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(stop_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for_port(
    child: subprocess.Popen[bytes], port: int, log: Path, start_s: float = START_S
) -> None:
    """Until the child listens. Raises BadRun with the end of its log where it does not."""
    until = time.monotonic() + start_s
    while time.monotonic() < until and child.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.02)
    raise BadRun(f"nothing listens on {port}: {log.read_text()[-800:]}")


def open_files() -> None:
    """As many open files as this process may have; its children inherit that."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if most == resource.RLIM_INFINITY else min(FILES_MAX, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody has now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@dataclass(frozen=True, slots=True)
class Cpu:
    """CPU seconds of a process and its children."""

    user: float
    system: float

    def __sub__(self, other: "Cpu") -> "Cpu":
        return Cpu(self.user - other.user, self.system - other.system)

    @property
    def total(self) -> float:
        return self.user + self.system


def cpu_of(pid: int) -> Cpu:
    """Of all threads, and of the children that run, since each started; 10 ms is one tick."""
    process = psutil.Process(pid)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return Cpu(sum(t.user for t in times), sum(t.system for t in times))


def machine_busy() -> float:
    """CPU seconds that the whole machine has worked, stolen time included."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    guest = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)
    return float(sum(times) - idle - guest)
