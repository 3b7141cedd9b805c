"""One round of one system: its scenes, each workload in them, and what they cost.

Two scenes, each on a fresh Valkey and a fresh server: a sale with more coupons than buyers (W1,
then the duplicate storm W3 of those who already hold one), and a sale that is over (W2).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from bench import wrk
from bench.passes import Passes
from bench.processes import BadRun, Cores, machine_busy, require
from bench.requests import Requests, key
from bench.result import Condition, Sample
from bench.serving import Serving, serving
from bench.systems.system import System

QUOTA = 10_000_000
GONE = 10_000
"""Coupons of the sale that is over."""
WARM_UP_S = 1
SELL_OUT_S = (1, 2, 4, 8)
LOOK_S = 0.1


class Bench:
    """What all measurements of a run share: request files, cores, seconds, connections."""

    def __init__(self, folder: Path, seconds: int, widths: list[int], cores: Cores) -> None:
        self._folder = folder
        self._seconds = seconds
        self._widths = widths
        self.cores = cores
        self._requests: dict[str, Requests] = {}

    def requests(self, passes: Passes) -> Requests:
        """Files for a form of pass; minted when first asked for."""
        if passes.form not in self._requests:
            made = Requests(self._folder, passes, self._seconds)
            self._requests[passes.form] = made
        return self._requests[passes.form]

    def round(self, system: System, fsync: str, number: int) -> Iterator[Sample]:
        """All workloads of a system, widths turned each round. Raises BadRun."""
        widths = self._widths if number % 2 else self._widths[::-1]
        requests = self.requests(system.passes)
        if "W1" in system.workloads:
            with serving(system, fsync, QUOTA, self.cores) as server:
                if system.books:
                    probe(server, requests)
                self.drive(server, requests.file("warm"), 64, WARM_UP_S, again=True)
                for width in widths:
                    yield self._sample(server, "W1", Condition(width, fsync), number)
                if "W3" in system.workloads:
                    # Once before: then a server remembers of these users what it ever will.
                    self.drive(server, requests.file("W3"), 64, WARM_UP_S, again=True)
                    for width in widths:
                        yield self._sample(server, "W3", Condition(width, fsync), number)
                if system.books:
                    system.books.check(server.ask, QUOTA)
        if "W2" in system.workloads and system.books:
            with serving(system, fsync, GONE, self.cores) as server:
                self._sell_out(server, requests)
                for width in widths:
                    yield self._sample(server, "W2", Condition(width, fsync), number)
                system.books.check(server.ask, GONE)

    def point(
        self,
        system: System,
        width: int,
        fsync: str,
        number: int,
        *,
        replica: bool = False,
        limiter: bool = False,
    ) -> Sample:
        """W1 at one number of connections, warmed up at that, by itself, on a Valkey with or
        without a replica, beside a limiter's or not. Raises BadRun."""
        requests = self.requests(system.passes)
        with serving(system, fsync, QUOTA, self.cores, replica=replica, limiter=limiter) as server:
            self.drive(server, requests.file("warm"), width, WARM_UP_S, again=True)
            sample = self._sample(server, "W1", Condition(width, fsync), number)
            if system.books:
                system.books.check(server.ask, QUOTA)
        return sample

    def _sell_out(self, server: Serving, requests: Requests) -> None:
        for seconds in SELL_OUT_S:
            self.drive(server, requests.file("warm"), 64, seconds, again=True)
            if server.settled() == GONE:
                return
        raise BadRun(f"{server.system.name} did not grant {GONE} coupons")

    def _sample(self, server: Serving, workload: str, condition: Condition, number: int) -> Sample:
        system = server.system
        requests = self.requests(system.passes)
        name = "W3" if workload == "W3" else f"{workload}-{condition.connections}"
        file = requests.file(name)
        granted_before = server.settled()
        before, busy, driver = server.read(), machine_busy(), wrk.cpu()
        with _Watch(server, requests, workload) as watch:
            seen = self.drive(
                server,
                file,
                condition.connections,
                self._seconds if workload == "W1" else max(1, self._seconds // 2),
                again=workload != "W1" or system.books is None,
            )
        after, busy = server.read(), machine_busy() - busy
        driver = wrk.cpu() - driver
        granted = server.settled() - granted_before
        check_answers(system, workload, condition, seen, granted)
        require(watch.wrong == "", f"{system.name}, {workload}: {watch.wrong}")
        micros = 1e6 / seen.requests
        used = after.server - before.server
        redis_s = after.redis_s - before.redis_s
        return Sample(
            system=system.name,
            workload=workload,
            condition=condition,
            round=number,
            requests=seen.requests,
            seconds=seen.seconds,
            server_user_us=used.user * micros,
            server_system_us=used.system * micros,
            redis_us=redis_s * micros if system.books else 0.0,
            driver_us=driver * micros,
            redis_commands=(after.commands - before.commands) / seen.requests,
            script_calls=(after.script_calls - before.script_calls) / seen.requests,
            p50_ms=seen.p50_us / 1000,
            p99_ms=seen.p99_us / 1000,
            others=max(0.0, (busy - used.total - redis_s - driver) / seen.seconds),
        )

    def drive(
        self, server: Serving, file: Path, connections: int, seconds: int, *, again: bool
    ) -> wrk.Figures:
        """Load on a server, with a file of requests."""
        return wrk.drive(
            server.port,
            file,
            connections=connections,
            seconds=seconds,
            cores=self.cores.driver,
            again=again,
        )


def probe(server: Serving, requests: Requests) -> None:
    """The answers are what they should be: granted once, refused the second time, no bad pass."""
    token = requests.probes()[0]
    statuses = [server.grab(token, name)[0] for name in ("first", "second")]
    statuses.append(server.grab(token[:-1] + ("0" if token[-1] != "0" else "1"), "third")[0])
    name = server.system.name
    require(statuses == [201, 409, 401], f"{name} answered {statuses}, not [201, 409, 401]")


def check_answers(
    system: System, workload: str, condition: Condition, seen: wrk.Figures, granted: int
) -> None:
    """What wrk counted is what the workload should give. Raises BadRun."""
    where = f"{system.name}, {workload}, {condition}: {seen}"
    require(seen.requests > 0 and seen.broken == 0, f"broken: {where}")
    if system.books is None:
        require(seen.refused == 0, f"refused: {where}")
    elif workload == "W1":
        require(seen.refused == 0, f"refused: {where}")
        in_flight = granted - seen.requests
        require(0 <= in_flight <= condition.connections, f"{granted} granted: {where}")
    else:
        require(granted == 0, f"{granted} granted: {where}")
        share = seen.refused / seen.requests
        wanted = 0.5 if workload == "W3" and system.books.replays else 1.0
        require(abs(share - wanted) < 0.05, f"{share:.2f} refused, not {wanted}: {where}")


@dataclass
class _Watch:
    """Asks a few times a second beside wrk, which counts refusals but does not read them."""

    server: Serving
    requests: Requests
    workload: str
    wrong: str = ""

    def __post_init__(self) -> None:
        self._stop = Event()
        self._thread = Thread(target=self._look, daemon=True)

    def __enter__(self) -> "_Watch":
        if self.workload != "W1" and self.server.system.books:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def _look(self) -> None:
        storm = self.workload == "W3"
        wanted = (409, "USER_LIMIT" if storm else "SOLD_OUT")
        token = self.requests.probes()[0 if storm else 1]
        number = 0
        while not self._stop.wait(LOOK_S) and not self.wrong:
            number += 1
            try:
                answer = self.server.grab(token, key(1 << 44 | number))
            except BadRun as bad:
                self.wrong = str(bad)
                return
            if answer != wanted:
                self.wrong = f"answered {answer}, not {wanted}"
