"""Instructions of a server in user space a request, by callgrind: no clock is in them.

Counted while wrk drives a server that is warm, for two lengths of time: the difference holds
neither start nor connections, and what a server does every second by itself is taken off.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import wrk
from bench.measure import QUOTA, Bench
from bench.processes import BadRun, require, share_cores
from bench.serving import serving
from bench.systems import all_systems
from bench.systems.system import System
from bench.targets import OURS

SHORT_S, LONG_S = 2, 6
REQUESTS_MIN = 1000
WORKLOADS = ("W1", "W2")
START_S = 120.0
WAIT_S = 60
CONNECTIONS = 64
FEW = 1000
"""Coupons of the sale that is over: gone within the warm-up, slow as it is."""
GO = "callgrind does not follow Go's stacks"


def missing() -> str | None:
    """Why nothing can be counted here, or None."""
    return None if shutil.which("vgdb") else "valgrind is not installed"


def count(systems: Sequence[System], bench: Bench, skipped: dict[str, str]) -> dict[str, float]:
    """Instructions a request by system and workload; the reasons of others go into `skipped`."""
    found = {}
    for system in systems:
        if system.name.startswith("go-"):
            skipped[f"instructions of {system.name}"] = GO
            continue
        for workload in WORKLOADS if system.name == OURS else WORKLOADS[:1]:
            name = f"{system.name} {workload}"
            try:
                found[name] = _count(system, workload, bench)
            except (BadRun, OSError, subprocess.SubprocessError) as error:
                skipped[f"instructions of {name}"] = str(error)[-200:]
    return found


def _count(system: System, workload: str, bench: Bench) -> float:
    requests = bench.requests(system.passes)
    file = requests.file("W3" if workload == "W3" else f"{workload}-{CONNECTIONS}")
    quota = FEW if workload == "W2" else QUOTA
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
        out = Path(name)
        under = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        under += [f"--callgrind-out-file={out}/%p"]
        with serving(system, "no", quota, bench.cores, under=under, start_s=START_S) as server:
            # W1's users are new to it; those of a storm have been there: what is kept of them is.
            before = requests.file("warm") if workload == "W1" else file
            bench.drive(server, before, CONNECTIONS, SHORT_S, again=True)
            _tell(server.pid, "instrumentation", "on")
            time.sleep(SHORT_S)
            _tell(server.pid, "dump")
            short = bench.drive(server, file, CONNECTIONS, SHORT_S, again=True)
            _tell(server.pid, "dump")
            long = bench.drive(server, file, CONNECTIONS, LONG_S, again=True)
            _tell(server.pid, "dump")
        idle, little, much = (_total(out / f"{server.pid}.{dump}") for dump in (1, 2, 3))
    return slope(idle / SHORT_S, (short, little), (long, much))


def slope(idle_s: float, short: tuple[wrk.Figures, int], long: tuple[wrk.Figures, int]) -> float:
    """Instructions a request, of two drives of unequal length: what connections cost falls out.

    `idle_s` are those of a second without requests (clock, floors). Raises BadRun.
    """
    requests = long[0].requests - short[0].requests
    require(requests >= REQUESTS_MIN, f"{requests} requests are too few to count")
    seconds = long[0].seconds - short[0].seconds
    return (long[1] - short[1] - idle_s * seconds) / requests


def _total(dump: Path) -> int:
    found = re.search(r"^totals: (\d+)", dump.read_text(), re.MULTILINE)
    require(found is not None, f"{dump.name} has no totals")
    assert found is not None
    return int(found[1])


def _tell(pid: int, *words: str) -> None:
    """A word to a running callgrind; a dump holds what was counted since the last one."""
    subprocess.run(
        ["vgdb", f"--pid={pid}", *words], check=True, capture_output=True, timeout=WAIT_S
    )


def main(argv: list[str] | None = None) -> int:
    """Print the counts of all systems, or of those that are named."""
    words = sys.argv[1:] if argv is None else argv
    if why := missing():
        print(f"bench: {why}", file=sys.stderr)
        return 2
    systems = [s for s in all_systems() if not s.missing() and s.name in (words or [s.name])]
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder:
        bench = Bench(Path(folder), 1, [CONNECTIONS], share_cores())
        for system in systems:
            for name, value in count([system], bench, {}).items():
                print(f"{name}: {value:,.0f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
