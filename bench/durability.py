"""`python -m bench.durability`: what `durability = "replica"` costs beside "fsync".

All granted (W1), one process, `appendfsync always` at primary and replica. Three ways in turns,
each point on a fresh Valkey and gateway: "fsync" without any replica, "fsync" with one that nobody
waits for, and "replica". CPU µs of Redis are of both servers together.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import points
from bench.figures import ratios
from bench.measure import Bench
from bench.passes import Blake2Passes
from bench.processes import share_cores
from bench.result import Sample, say
from bench.systems.ours import Ours

ALONE, BESIDE, WAITS = "fsync, no replica", "fsync, with a replica", "replica"
COLUMNS = ("connections", "durability", *points.COLUMNS,
           "rate over " + BESIDE, "CPU over " + BESIDE)  # fmt: skip


def run(folder: Path, widths: list[int], rounds: int, seconds: int) -> list[Sample]:
    """All points, round by round. Raises BadRun."""
    passes = Blake2Passes()
    ways = [
        Ours(passes, ALONE),
        Ours(passes, BESIDE),
        Ours(passes, WAITS, durability="replica"),
    ]
    bench = Bench(folder, seconds, widths, share_cores())
    samples = []
    for number_ in range(1, rounds + 1):
        for width in widths:
            for way in ways if number_ % 2 else reversed(ways):
                sample = bench.point(way, width, "always", number_, replica=way.name != ALONE)
                samples.append(sample)
                say(
                    f"round {number_}  {width:4} connections  {way.name:22}"
                    f" {sample.per_second:8,.0f}/s  p99 {sample.p99_ms:7.2f} ms"
                    f"  {sample.server_us:5.1f} + {sample.redis_us:5.1f} µs"
                )
    return samples


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a way and number of connections: medians; ratios are taken inside a round."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for width in sorted({s.condition.connections for s in samples}):
        beside = _of(samples, width, BESIDE)
        for way in (ALONE, BESIDE, WAITS):
            rows = _of(samples, width, way)
            cells = [width, way, *points.medians(rows)]
            cells += [ratios([s.per_second for s in rows], [s.per_second for s in beside])]
            cells += [ratios([s.cpu_us for s in rows], [s.cpu_us for s in beside])]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _of(samples: Sequence[Sample], width: int, way: str) -> list[Sample]:
    found = [s for s in samples if (s.system, s.condition.connections) == (way, width)]
    return sorted(found, key=lambda s: s.round)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.durability",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.durability --connections 64 256 --rounds 3",
    )
    points.add_options(parser, [64, 256])
    options = parser.parse_args(argv)
    words = shlex.join(sys.argv[1:] if argv is None else argv)
    return points.main(
        "durability",
        "What waiting for a replica costs",
        words,
        f"`{' '.join(('python -m bench.durability', words)).strip()}`",
        f"{share_cores()}, the replica beside Valkey",
        options.out,
        lambda folder: run(folder, options.connections, options.rounds, options.seconds),
        table,
    )


if __name__ == "__main__":
    sys.exit(main())
