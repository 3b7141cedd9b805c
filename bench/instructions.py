"""Instructions of a server in user space a request, by callgrind: on a noisy machine they repeat.

Counted while wrk drives a server that is warm; start and warm-up are not counted.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench import wrk
from bench.measure import QUOTA, Bench
from bench.processes import BadRun
from bench.serving import Serving, serving
from bench.systems.system import System

SECONDS = 3
START_S = 120.0
WAIT_S = 60
CONNECTIONS = 64
GO = "callgrind does not follow Go's stacks"


def missing() -> str | None:
    """Why nothing can be counted here, or None."""
    return None if shutil.which("vgdb") else "valgrind is not installed"


def count(systems: Sequence[System], bench: Bench, skipped: dict[str, str]) -> dict[str, float]:
    """Instructions a request of W1 by system; the reasons of the others go into `skipped`."""
    found = {}
    for system in systems:
        if system.name.startswith("go-"):
            skipped[f"instructions of {system.name}"] = GO
            continue
        try:
            found[system.name] = _count(system, bench)
        except (BadRun, OSError, subprocess.SubprocessError) as error:
            skipped[f"instructions of {system.name}"] = str(error)[-200:]
    return found


def _count(system: System, bench: Bench) -> float:
    requests = bench.requests(system.passes)
    file, fresh = requests.file("warm"), requests.file(f"W1-{CONNECTIONS}")
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
        out = Path(name)
        under = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
        under += [f"--callgrind-out-file={out}/%p"]
        with serving(system, "no", QUOTA, bench.cores, under=under, start_s=START_S) as server:
            drive(server, file, bench)
            before = server.settled()
            _tell(server.pid, "instrumentation", "on")
            seen = drive(server, fresh, bench)
            _tell(server.pid, "dump")
            done = server.settled() - before if system.books else seen.requests
        total = re.search(r"^totals: (\d+)", (out / f"{server.pid}.1").read_text(), re.MULTILINE)
    if total is None or not done:
        raise BadRun("callgrind counted nothing")
    return int(total[1]) / done


def drive(server: Serving, file: Path, bench: Bench) -> wrk.Figures:
    """As in the other measurements."""
    return wrk.drive(
        server.port,
        file,
        connections=CONNECTIONS,
        seconds=SECONDS,
        cores=bench.cores.driver,
        again=True,
    )


def _tell(pid: int, *words: str) -> None:
    """A word to a running callgrind; a dump holds what was counted since the last one."""
    subprocess.run(
        ["vgdb", f"--pid={pid}", *words], check=True, capture_output=True, timeout=WAIT_S
    )
