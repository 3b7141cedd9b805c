"""`python -m bench.curve`: what load does to a grab, from 1 connection to 4,096.

For each number of connections: requests/s, p50 and p99, how many grabs one script call carried,
and CPU µs a grab of gateway and Redis. Interleaved rounds, each point on a fresh Valkey and
gateway; all granted (W1), one process.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import result, wrk
from bench.figures import number, spread
from bench.measure import Bench
from bench.passes import Blake2Passes
from bench.processes import BadRun, open_files, share_cores
from bench.result import Sample, say
from bench.systems.ours import Ours

WIDTHS = [1, 4, 16, 64, 256, 1024, 4096]
COLUMNS = ("connections", "rounds", "requests/s", "p50 ms", "p99 ms", "grabs a script call",
           "gateway µs a grab", "Redis µs a grab")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Result:
    """A run."""

    date: str
    commit: str
    command: str
    samples: list[Sample]
    machine: dict[str, str] = field(default_factory=result.machine)


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
        cells: list[object] = [f"{width:,}", len(rows), spread([s.per_second for s in rows])]
        cells += [number(spread([s.p50_ms for s in rows]).median)]
        cells += [number(spread([s.p99_ms for s in rows]).median)]
        cells += [number(spread([1 / s.script_calls for s in rows]).median)]
        cells += [spread([s.server_us for s in rows]), spread([s.redis_us for s in rows])]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.curve", description=__doc__)
    parser.add_argument("--connections", type=int, nargs="+", default=WIDTHS)
    parser.add_argument("--fsync", choices=("no", "always"), default="always")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each point (2)")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    options = parser.parse_args(argv)
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    open_files()
    try:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
            samples = run(
                Path(name), options.connections, options.fsync, options.rounds, options.seconds
            )
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    words = shlex.join(sys.argv[1:] if argv is None else argv)
    date, commit = datetime.now(UTC).isoformat(timespec="seconds"), result.commit()
    page = "\n".join(
        [
            f"# A grab under load: {date[:10]}, commit {commit}",
            "",
            f"Command: `python -m bench.curve {words}`, appendfsync {options.fsync}.",
            "",
            *(f"- {name}: {value}" for name, value in result.machine().items()),
            f"- pinning: {share_cores()}",
            "",
            *table(samples),
            "",
        ]
    )
    say(page)
    found = Result(date, commit, words, samples)
    say("written: {} and {}".format(*result.write(found, page, options.out, "curve")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
