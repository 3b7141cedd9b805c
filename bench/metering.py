"""`python -m bench.metering`: what counting costs a grab, in bytecodes and in instructions.

A gateway process is fed a fixed number of grabs without sockets (tests/bench/fed.py), so that no
clock and no other load is in the figures: two runs differ by less than 0.5 %. The other side is the
same code without its lines that count; the product has no such switch. A third side has traces
switched on and none of the grabs traced. Instructions, of user space and with all that is written
in C, are counted where valgrind is installed.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.processes import ROOT, BadRun, Cores, require
from bench.serving import valkey

FED = ROOT / "tests" / "bench" / "fed.py"
SIDES = ("as it is", "metrics off", "traces")
WORKLOADS = ("W1", "W2", "W3")
REQUESTS = 2000
"""Of the short length in fed.py; the long one is twice as many."""
WITHIN_S = 600
Costs = dict[str, dict[str, float]]
"""A request's cost by workload and side."""


def bytecodes(url: str, sides: Sequence[str] = SIDES) -> Costs:
    """Of each side in a process of its own."""
    found: Costs = {workload: {} for workload in WORKLOADS}
    for side in sides:
        done = subprocess.run(
            _command(url, side), env=_environment(), stdout=subprocess.PIPE, text=True,
            timeout=WITHIN_S, check=True,
        )  # fmt: skip
        for line in done.stdout.splitlines():
            said = json.loads(line)
            found[said["workload"]][side] = said["all"]
    return found


def instructions(url: str, sides: Sequence[str] = SIDES[:2]) -> Costs:
    """The same by callgrind: of two lengths, so that what surrounds the grabs falls out. Without
    the third side, since each takes a minute."""
    found: Costs = {workload: {} for workload in WORKLOADS}
    for side in sides:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder:
            totals = _counted(url, side, Path(folder))
        for place, workload in enumerate(WORKLOADS):
            short, long = totals[3 * place + 1], totals[3 * place + 2]
            found[workload][side] = (long - short) / REQUESTS
    return found


def _counted(url: str, side: str, folder: Path) -> list[int]:
    """Instructions up to each stop, since the one before."""
    under = ["valgrind", "-q", "--tool=callgrind", "--instr-atstart=no"]
    under.append(f"--callgrind-out-file={folder}/out")
    command = [*under, *_command(url, side), "--stops"]
    fed = subprocess.Popen(
        command, env=_environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert fed.stdin is not None
    assert fed.stdout is not None
    totals: list[int] = []
    try:
        for line in fed.stdout:
            if line.startswith("{"):
                continue
            stop = len(totals) % 3
            if stop == 0:
                _tell(fed.pid, "instrumentation", "on")
            _tell(fed.pid, "dump")
            if stop == 2:
                _tell(fed.pid, "instrumentation", "off")
            text = (folder / f"out.{len(totals) + 1}").read_text()
            total = re.search(r"^totals: (\d+)", text, re.MULTILINE)
            require(total is not None, "callgrind has counted nothing")
            assert total is not None
            totals.append(int(total[1]))
            fed.stdin.write("\n")
            fed.stdin.flush()
    finally:
        fed.kill()
        fed.communicate()
    require(len(totals) == 3 * len(WORKLOADS), f"{len(totals)} stops")
    return totals


def _tell(pid: int, *words: str) -> None:
    command = ["vgdb", f"--pid={pid}", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=WITHIN_S)


def _command(url: str, side: str) -> list[str]:
    return [sys.executable, "-P", str(FED), url, "--side", side]


def _environment() -> dict[str, str]:
    own = {"PYTHONPATH": os.environ.get("PYTHONPATH") or str(ROOT), "PYTHONHASHSEED": "0"}
    return {**{k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}, **own}


def table(unit: str, costs: Costs) -> str:
    """Markdown: each workload's cost by side, and over that of metrics off."""
    sides = [side for side in SIDES if side in costs[WORKLOADS[0]]]
    lines = [f"| {unit} a grab | {' | '.join(sides)} | as it is / metrics off |"]
    lines.append("|---" * (len(sides) + 2) + "|")
    for workload, by_side in costs.items():
        shown = " | ".join(f"{by_side[side]:,.0f}" for side in sides)
        ratio = by_side["as it is"] / by_side["metrics off"]
        lines.append(f"| {workload} | {shown} | {ratio:.3f} |")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Print both tables, the second where valgrind is installed."""
    argparse.ArgumentParser(prog="python -m bench.metering", description=__doc__).parse_args(argv)
    anywhere = Cores(frozenset(), frozenset(), frozenset())
    with (
        tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder,
        valkey(Path(folder), "no", anywhere) as (_, port),
    ):
        url = f"redis://127.0.0.1:{port}"
        print(table("bytecodes", bytecodes(url)), flush=True)
        if shutil.which("vgdb") is None:
            print("bench: valgrind is not installed: no instructions", file=sys.stderr)
            return 0
        print(table("instructions", instructions(url)))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (BadRun, subprocess.SubprocessError) as error:
        sys.exit(f"bench: {error}")
