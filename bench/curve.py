"""`python -m bench.curve`: what load does to a grab, from 1 connection to 4,096.

For each number of connections: requests/s, p50 and p99, how many grabs one script call carried,
and CPU µs a grab of gateway and Redis. Interleaved rounds, each point on a fresh Valkey and
gateway; all granted (W1), one process.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import points
from bench.measure import Bench
from bench.passes import Blake2Passes
from bench.processes import share_cores
from bench.result import Sample, say
from bench.systems.ours import Ours

WIDTHS = [1, 4, 16, 64, 256, 1024, 4096]
COLUMNS = ("connections", *points.COLUMNS)


def run(folder: Path, widths: Sequence[int], fsync: str, rounds: int, seconds: int) -> list[Sample]:
    """All points, round by round. Raises BadRun."""
    ours, cores = Ours(Blake2Passes()), share_cores()
    bench = Bench(folder, seconds, list(widths), cores)
    samples = []
    for number_ in range(1, rounds + 1):
        for width in widths if number_ % 2 else reversed(widths):
            sample = bench.point(ours, width, fsync, number_)
            samples.append(sample)
            say(
                f"round {number_}  {width:5} connections  {sample.per_second:8,.0f}/s  "
                f"p99 {sample.p99_ms:7.2f} ms  {1 / sample.script_calls:6.1f} a call"
            )
    return samples


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a number of connections: medians, with lowest and highest of the rates."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for width in sorted({s.condition.connections for s in samples}):
        rows = [s for s in samples if s.condition.connections == width]
        cells = [f"{width:,}", *points.medians(rows)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.curve", description=__doc__)
    parser.add_argument("--fsync", choices=("no", "always"), default="always")
    points.add_options(parser, WIDTHS)
    options = parser.parse_args(argv)
    words = shlex.join(sys.argv[1:] if argv is None else argv)
    return points.main(
        "curve",
        "A grab under load",
        words,
        f"`python -m bench.curve {words}`, appendfsync {options.fsync}.",
        str(share_cores()),
        options.out,
        lambda folder: run(
            folder, options.connections, options.fsync, options.rounds, options.seconds
        ),
        table,
    )


if __name__ == "__main__":
    sys.exit(main())
