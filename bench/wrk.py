"""The closed-loop generator: wrk with drive.lua, one pinned thread."""

import json
import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

from bench.processes import BadRun, pinned
from bench.requests import head

SCRIPT = Path(__file__).with_name("drive.lua")
GRACE_S = 15
MISSING = (
    "wrk, the load generator, is not on PATH: `apt-get install wrk` or `brew install wrk`, "
    "then again"
)


@dataclass(frozen=True, slots=True)
class Figures:
    """What wrk saw. `refused` are answers above 399, `broken` are socket errors and time-outs."""

    requests: int
    seconds: float
    refused: int
    broken: int
    p50_us: int
    p99_us: int


def available() -> bool:
    """Whether wrk is installed."""
    return shutil.which("wrk") is not None


def cpu() -> float:
    """CPU seconds of children that have ended: wrk's."""
    usage = getrusage(RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def drive(
    port: int,
    requests: Path,
    *,
    connections: int,
    seconds: float,
    cores: Collection[int],
    again: bool = False,
) -> Figures:
    """Send a file's requests for whole seconds, anew from its end if `again`. Raises BadRun."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "5s"]
    command += ["-s", str(SCRIPT), f"http://127.0.0.1:{port}", "--", str(requests)]
    command += [str(head(requests.parent, port)), "1" if again else "0"]
    with pinned(cores):
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds + GRACE_S,
            check=False,
            env={"PATH": os.environ["PATH"]},
        )
    if done.returncode:
        raise BadRun(f"wrk failed: {done.stderr.strip() or done.stdout.strip()}")
    return parse(done.stdout)


def parse(output: str) -> Figures:
    """The line that drive.lua prints at the end. Raises BadRun where there is none."""
    line = next((x for x in output.splitlines() if x.startswith("figures ")), None)
    if line is None:
        raise BadRun(f"wrk printed no figures: {output.strip()[-200:]}")
    found = json.loads(line.removeprefix("figures "))
    if found["exhausted"]:
        raise BadRun("the requests were used up before the time was: write more")
    return Figures(
        requests=found["requests"],
        seconds=found["micros"] / 1e6,
        refused=found["refused"],
        broken=found["broken"],
        p50_us=found["p50_us"],
        p99_us=found["p99_us"],
    )
