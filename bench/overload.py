"""`python -m bench.overload`: offered against granted and p99, from 0.5 to 3 times the capacity.

The capacity is found in the same run, by a closed loop; then an open loop (bench/go/arrivals), a
fresh server each time, every request another user's. Two scenes. `store`: a Redis that is blocked
most of the time (DEBUG SLEEP, which costs no CPU) and calls of few grabs: it decides less than a
gateway can take in, so that grabs stand in its queue, and new ones are told BUSY. `gateway`: the
settings of production, where the gateway's own CPU is what is
used up; what is too much is then left in the system's buffers (gateway/pace.py). Sends that the
generator itself was late for, or that waited for one of its connections, are in the table.
"""

import argparse
import shlex
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import result
from bench.arrivals import drive, missing
from bench.books import Ask
from bench.passes import Blake2Passes
from bench.processes import BadRun, Cores, open_files, require, share_cores
from bench.requests import key
from bench.result import say
from bench.serving import Serving, serving
from bench.systems.ours import Ours

LOADS = [0.5, 1.0, 1.5, 2.0, 3.0]
CONNECTIONS = {"store": 2048, "gateway": 4096}
"""Enough for those who wait; one that says nothing for 4 s is closed (gateway/hardened.py)."""
NARROW = 8
"""Grabs a call of the scene `store`."""
BLOCKED_MS = 4
"""Its Redis stands still for so long, again and again."""
CLOSED = {"store": 64, "gateway": 512}
"""Connections of the closed loop that finds the capacity: enough for full calls."""
FSYNC = {"store": "no", "gateway": "always"}
"""What the scene `store` waits for is the block, and not the disk's mood."""
CAPACITY_S = 2
FASTEST = 60_000
"""Grabs/s that no machine here decides."""
QUOTA = 10_000_000
GOODPUT_MIN = 0.9
COLUMNS = (
    "scene",
    "load",
    "offered/s",
    "granted/s",
    "BUSY/s",
    "p50 ms",
    "p99 ms",
    "p99 ms from sending",
    "BUSY p99 ms from sending",
    "gateway cores",
    "late",
    "waited",
)


class Narrow(Ours):
    """Ours, with calls of so many grabs; 0: as in production."""

    def __init__(self, passes: Blake2Passes, batch_max: int) -> None:
        super().__init__(passes)
        self._batch_max = batch_max

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        command, env = super().command(redis_port, port, folder)
        return command, env | (
            {"FLASHGRAB_BATCH_MAX": str(self._batch_max)} if self._batch_max else {}
        )


@contextmanager
def blocked(ask: Ask) -> Iterator[None]:
    """Redis stands still for BLOCKED_MS, answers what has come, and stands still again."""
    over = threading.Event()

    def block() -> None:
        while not over.is_set():
            ask("DEBUG", "SLEEP", BLOCKED_MS / 1000)

    thread = threading.Thread(target=block, name="blocked")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@dataclass(frozen=True, slots=True)
class Row:
    """One load of one scene; rates a second, from the first arrival to the last answer."""

    scene: str
    load: float
    offered: int
    granted: int
    busy: int
    p50_ms: float
    p99_ms: float
    sent_p99_ms: float
    busy_p99_ms: float
    gateway_cores: float
    late: int
    waited: int

    def cells(self) -> list[str]:
        rates = [f"{n:,}" for n in (self.offered, self.granted, self.busy)]
        times = [f"{ms:.1f}" for ms in (self.p50_ms, self.p99_ms, self.sent_p99_ms)]
        tail = [f"{self.busy_p99_ms:.1f}" if self.busy else "-", f"{self.gateway_cores:.2f}"]
        return [
            self.scene,
            f"{self.load:g}",
            *rates,
            *times,
            *tail,
            str(self.late),
            str(self.waited),
        ]


@dataclass(frozen=True, slots=True)
class Result:
    """A run. `capacity` in grabs/s, and `goodput` at the highest load over the best, by scene."""

    date: str
    commit: str
    command: str
    capacity: dict[str, int]
    goodput: dict[str, float]
    rows: list[Row]
    machine: dict[str, str] = field(default_factory=result.machine)


class Bench:
    """Where the requests are, how long a load lasts."""

    def __init__(self, folder: Path, seconds: int, cores: Cores) -> None:
        self._folder = folder
        self._seconds = seconds
        self._cores = cores
        self._passes = Blake2Passes()
        self._tokens: list[str] = []

    def scene(self, name: str, loads: Sequence[float]) -> tuple[int, list[Row]]:
        """Its capacity, and a row a load. Raises BadRun."""
        ours = Narrow(self._passes, NARROW if name == "store" else 0)
        capacity = self._capacity(ours, name)
        say(f"{name}: capacity {capacity:,}/s")
        rows = [self._row(ours, name, load, round(capacity * load)) for load in loads]
        return capacity, rows

    def _capacity(self, ours: Ours, scene: str) -> int:
        file = self._requests(FASTEST * CAPACITY_S)
        with self._serving(ours, scene) as server:
            seen = drive(
                f"127.0.0.1:{server.port}", file, 0, self._cores.driver,
                seconds=CAPACITY_S, connections=CLOSED[scene],
            )  # fmt: skip
            require(set(seen["statuses"]) == {"201"}, f"answers {seen['statuses']}")
        return int(seen["answered"] * 1e6 / seen["micros"])

    def _row(self, ours: Ours, scene: str, load: float, rate: int) -> Row:
        file = self._requests(rate * self._seconds)
        with self._serving(ours, scene) as server:
            before = server.read().server
            seen = drive(
                f"127.0.0.1:{server.port}", file, rate, self._cores.driver,
                connections=CONNECTIONS[scene],
            )  # fmt: skip
            used = server.read().server - before
            granted = server.settled()
            assert ours.books is not None
            ours.books.check(server.ask, QUOTA)
        counts = {int(status): n for status, n in seen["statuses"].items()}
        whole = seen["sent"] == seen["answered"] and set(counts) <= {201, 503}
        require(whole and counts.get(201, 0) == granted, f"{granted} in the books: {seen}")
        seconds, of = seen["micros"] / 1e6, seen["by_status"]
        wins: dict[str, Any] = of["201"]
        row = Row(
            scene=scene,
            load=load,
            offered=rate,
            granted=round(granted / seconds),
            busy=round(counts.get(503, 0) / seconds),
            p50_ms=wins["p50_us"] / 1000,
            p99_ms=wins["p99_us"] / 1000,
            sent_p99_ms=wins["sent_p99_us"] / 1000,
            busy_p99_ms=of["503"]["sent_p99_us"] / 1000 if "503" in of else 0.0,
            gateway_cores=used.total / seconds,
            late=seen["late"],
            waited=seen["waited"],
        )
        say("  ".join(f"{name} {cell}" for name, cell in zip(COLUMNS, row.cells(), strict=True)))
        return row

    @contextmanager
    def _serving(self, ours: Ours, scene: str) -> Iterator[Serving]:
        with (
            serving(ours, FSYNC[scene], QUOTA, self._cores) as server,
            blocked(server.ask) if scene == "store" else nullcontext(),
        ):
            yield server

    def _requests(self, count: int) -> Path:
        """A file of so many users, each with a key."""
        if len(self._tokens) < count:
            minted = self._folder / "passes"
            self._passes.mint(minted, count, "o")
            self._tokens = minted.read_text().splitlines()
        file = self._folder / "requests"
        file.write_text("".join(f"{t}\n{key(n)}\n" for n, t in enumerate(self._tokens[:count])))
        return file


def page(found: Result, pinning: str) -> str:
    """The table, and what became of the goodput."""
    rows = ["| " + " | ".join(row.cells()) + " |" for row in found.rows]
    verdicts = [
        f"- {scene} (appendfsync {FSYNC[scene]}): capacity {found.capacity[scene]:,}/s; granted "
        f"at the highest load over the best: {share:.2f} (≥ {GOODPUT_MIN} wanted: "
        f"{'reached' if share >= GOODPUT_MIN else '**missed**'})"
        for scene, share in found.goodput.items()
    ]
    return "\n".join(
        [
            f"# More than can be served: {found.date[:10]}, commit {found.commit}",
            "",
            f"Command: `python -m bench.overload {found.command}`.",
            "",
            *(f"- {name}: {value}" for name, value in found.machine.items()),
            f"- pinning: {pinning}",
            *verdicts,
            "",
            "| " + " | ".join(COLUMNS) + " |",
            "|" + "---|" * len(COLUMNS),
            *rows,
            "",
        ]
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: wrong books, or goodput missed; 2: the
    generator cannot run here."""
    parser = argparse.ArgumentParser(prog="python -m bench.overload", description=__doc__)
    parser.add_argument("--scenes", nargs="+", default=["store", "gateway"])
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--seconds", type=int, default=3, help="of each load (3)")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    options = parser.parse_args(argv)
    if why := missing():
        print(f"bench: {why}", file=sys.stderr)
        return 2
    open_files()
    cores, capacity, rows = share_cores(), {}, []
    try:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
            bench = Bench(Path(name), options.seconds, cores)
            for scene in options.scenes:
                capacity[scene], of_scene = bench.scene(scene, options.loads)
                rows += of_scene
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    goodput = {
        scene: last[-1].granted / max(row.granted for row in last)
        for scene in options.scenes
        if (last := [row for row in rows if row.scene == scene])
    }
    date, words = datetime.now(UTC).isoformat(timespec="seconds"), shlex.join(argv or sys.argv[1:])
    found = Result(date, result.commit(), words, capacity, goodput, rows)
    text = page(found, str(cores))
    say(text)
    say("written: {} and {}".format(*result.write(found, text, options.out, "overload")))
    return 0 if min(goodput.values()) >= GOODPUT_MIN else 1


if __name__ == "__main__":
    sys.exit(main())
