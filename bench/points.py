"""What the benchmarks of our gateway alone share: points in rounds, one page, two files."""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import result, wrk
from bench.figures import number, spread
from bench.processes import BadRun, open_files
from bench.result import Sample, say

COLUMNS = ("rounds", "requests/s", "p50 ms", "p99 ms", "grabs a script call",
           "gateway µs a grab", "Redis µs a grab")  # fmt: skip
"""Of `medians`."""


@dataclass(frozen=True, slots=True)
class Result:
    """A run."""

    date: str
    commit: str
    command: str
    samples: list[Sample]
    machine: dict[str, str] = field(default_factory=result.machine)


def medians(rows: Sequence[Sample]) -> list[object]:
    """The cells of one row: medians, with lowest and highest of rates and CPU."""
    cells: list[object] = [len(rows), spread([s.per_second for s in rows])]
    cells += [number(spread([s.p50_ms for s in rows]).median)]
    cells += [number(spread([s.p99_ms for s in rows]).median)]
    cells += [number(spread([1 / s.script_calls for s in rows]).median)]
    return [*cells, spread([s.server_us for s in rows]), spread([s.redis_us for s in rows])]


def add_options(parser: argparse.ArgumentParser, widths: Sequence[int]) -> None:
    """How wide, how often, how long, where to."""
    parser.add_argument("--connections", type=int, nargs="+", default=list(widths))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of each point (2)")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")


def main(
    kind: str,
    title: str,
    words: str,
    command: str,
    pinning: str,
    out: Path | None,
    run: Callable[[Path], list[Sample]],
    table: Callable[[Sequence[Sample]], list[str]],
) -> int:
    """Measure in a folder of its own, write the result file, print its table.

    1: an answer or a book is wrong; 2: there is no wrk.
    """
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    open_files()
    try:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
            samples = run(Path(name))
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    date, commit = datetime.now(UTC).isoformat(timespec="seconds"), result.commit()
    page = "\n".join(
        [
            f"# {title}: {date[:10]}, commit {commit}",
            "",
            f"Command: {command}",
            "",
            *(f"- {name}: {value}" for name, value in result.machine().items()),
            f"- pinning: {pinning}",
            "",
            *table(samples),
            "",
        ]
    )
    say(page)
    found = Result(date, commit, words, samples)
    say("written: {} and {}".format(*result.write(found, page, out, kind)))
    return 0
