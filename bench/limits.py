"""`python -m bench.limits`: what rate limits cost a grab that is granted.

All granted (W1), one process, `appendfsync always`. Three ways in turns, each point on a fresh
Valkey and gateway: no limits, a user's alone, and user, address with its block, and campaign, far
enough above the load that nobody is refused. CPU µs of Redis are of the stock's server and of the
limiter's together.
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

OFF, USER, ALL = "no limits", "a user's", "user, address, block, campaign"
FAR = "9999999/1s"
WAYS = {
    OFF: None,
    USER: {"user": "5/10s"},
    ALL: {"user": "5/10s", "address": FAR, "campaign": FAR},
}
COLUMNS = ("connections", "limits", *points.COLUMNS, "rate over none", "CPU over none")


def run(folder: Path, widths: list[int], rounds: int, seconds: int) -> list[Sample]:
    """All points, round by round. Raises BadRun."""
    passes = Blake2Passes()
    ways = [Ours(passes, name, limits=limits) for name, limits in WAYS.items()]
    bench = Bench(folder, seconds, widths, share_cores())
    samples = []
    for number in range(1, rounds + 1):
        for width in widths:
            for way in ways if number % 2 else reversed(ways):
                sample = bench.point(way, width, "always", number, limiter=way.name != OFF)
                samples.append(sample)
                say(
                    f"round {number}  {width:4} connections  {way.name:32}"
                    f" {sample.per_second:8,.0f}/s  p99 {sample.p99_ms:7.2f} ms"
                    f"  {sample.server_us:5.1f} + {sample.redis_us:5.1f} µs"
                )
    return samples


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a way and number of connections: medians; ratios are taken inside a round."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for width in sorted({s.condition.connections for s in samples}):
        off = _of(samples, width, OFF)
        for way in WAYS:
            rows = _of(samples, width, way)
            cells = [width, way, *points.medians(rows)]
            cells += [ratios([s.per_second for s in rows], [s.per_second for s in off])]
            cells += [ratios([s.cpu_us for s in rows], [s.cpu_us for s in off])]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _of(samples: Sequence[Sample], width: int, way: str) -> list[Sample]:
    found = [s for s in samples if (s.system, s.condition.connections) == (way, width)]
    return sorted(found, key=lambda s: s.round)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.limits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example: python -m bench.limits --connections 64 256 --rounds 3",
    )
    points.add_options(parser, [64, 256])
    options = parser.parse_args(argv)
    words = shlex.join(sys.argv[1:] if argv is None else argv)
    return points.main(
        "limits",
        "What rate limits cost",
        words,
        f"`{' '.join(('python -m bench.limits', words)).strip()}`",
        f"{share_cores()}, the limiter beside Valkey",
        options.out,
        lambda folder: run(folder, options.connections, options.rounds, options.seconds),
        table,
    )


if __name__ == "__main__":
    sys.exit(main())
