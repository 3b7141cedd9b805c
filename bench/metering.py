"""`python -m bench.metering`: what counting costs a grab, by instructions, in turns in one run.

The other side is the same gateway with metrics that count nothing (tests/bench/unmetered.py); the
product has no such switch. `--traces` compares with a gateway that has traces switched on and no
grab that is traced: what the look for a traceparent costs.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from bench import instructions
from bench.instructions import CONNECTIONS, count, missing
from bench.measure import Bench
from bench.passes import Blake2Passes
from bench.processes import share_cores
from bench.systems.ours import Ours

UNMETERED = "tests.bench.unmetered"
NOBODY = "http://127.0.0.1:1/v1/traces"


class Unmetered(Ours):
    """Ours, with metrics that count nothing."""

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        _, env = super().command(redis_port, port, folder)
        return [sys.executable, "-m", UNMETERED], env


class Traced(Ours):
    """Ours, with traces switched on."""

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        command, env = super().command(redis_port, port, folder)
        return command, {**env, "FLASHGRAB_TRACES_URL": NOBODY}


def main(argv: list[str] | None = None) -> int:
    """Print instructions a grab of both, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.metering", description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--traces", action="store_true", help="traces on, against off")
    options = parser.parse_args(argv)
    if why := missing():
        print(f"bench: {why}", file=sys.stderr)
        return 2
    passes = Blake2Passes()
    plain = Ours(passes)  # its name is the only one whose refusals are counted, too
    other = Traced(passes) if options.traces else Unmetered(passes)
    words = "traces on" if options.traces else "metrics off"
    seen: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder:
        bench = Bench(Path(folder), 1, [CONNECTIONS], share_cores())
        for _ in range(options.rounds):
            for label, system in ((words, other), ("as it is", plain)):
                skipped: dict[str, str] = {}
                for name, value in count([system], bench, skipped).items():
                    workload = name.rpartition(" ")[2]
                    seen.setdefault(f"{workload} {label}", []).append(value)
                    print(f"{workload} {label}: {value:,.0f}", flush=True)
                for name, why in skipped.items():
                    print(f"{name}: {why}", file=sys.stderr)
    ratios(seen, words)
    return 0


def ratios(seen: Mapping[str, list[float]], words: str) -> None:
    """As it is, over the other."""
    for workload in instructions.WORKLOADS:
        mine, others = seen.get(f"{workload} as it is"), seen.get(f"{workload} {words}")
        if mine and others:
            print(f"{workload}: as it is / {words} = {median(mine) / median(others):.4f}")


if __name__ == "__main__":
    sys.exit(main())
