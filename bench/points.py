"""What the benchmarks of our gateway alone share: points in rounds, one page, two files."""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import result, wrk
from bench.figures import number, ratios, spread
from bench.measure import Bench
from bench.passes import Blake2Passes
from bench.processes import BadRun, open_files, share_cores
from bench.result import Sample, say
from bench.systems.ours import Ours

COLUMNS = ("rounds", "requests/s", "p50 ms", "p99 ms", "grabs a script call",
           "gateway µs a grab", "Redis µs a grab")  # fmt: skip
"""Of `medians`."""


@dataclass(frozen=True, slots=True)
class Way:
    """One of several ways that are compared: our gateway, and which other server is beside it."""

    ours: Ours
    replica: bool = False
    limiter: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """Of ways in turns: what differs in them, and which one the others are measured by, which the
    table calls `over`. `beside` says where the other server runs."""

    kind: str
    title: str
    differs: str
    base: str
    over: str
    beside: str
    ways: Callable[[Blake2Passes], Sequence[Way]]


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


def compare(of: Comparison, doc: str | None, argv: list[str] | None) -> int:
    """The command of such a benchmark. 1: an answer or a book is wrong; 2: there is no wrk."""
    program = f"python -m bench.{of.kind}"
    parser = argparse.ArgumentParser(
        prog=program,
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"example: {program} --connections 64 256 --rounds 3",
    )
    add_options(parser, [64, 256])
    options = parser.parse_args(argv)
    words = shlex.join(sys.argv[1:] if argv is None else argv)
    return main(
        of.kind,
        of.title,
        words,
        f"`{' '.join((program, words)).strip()}`",
        f"{share_cores()}, {of.beside}",
        options.out,
        lambda folder: _in_turns(of, folder, options),
        lambda samples: _ratios(of, samples),
    )


def _in_turns(of: Comparison, folder: Path, options: argparse.Namespace) -> list[Sample]:
    """All points, round by round. Raises BadRun."""
    ways = of.ways(Blake2Passes())
    bench = Bench(folder, options.seconds, options.connections, share_cores())
    longest = max(len(way.ours.name) for way in ways)
    samples = []
    for round_ in range(1, options.rounds + 1):
        for width in options.connections:
            for way in ways if round_ % 2 else reversed(ways):
                sample = bench.point(
                    way.ours, width, "always", round_, replica=way.replica, limiter=way.limiter
                )
                samples.append(sample)
                say(
                    f"round {round_}  {width:4} connections  {way.ours.name:{longest}}"
                    f" {sample.per_second:8,.0f}/s  p99 {sample.p99_ms:7.2f} ms"
                    f"  {sample.server_us:5.1f} + {sample.redis_us:5.1f} µs"
                )
    return samples


def _ratios(of: Comparison, samples: Sequence[Sample]) -> list[str]:
    """One row a way and number of connections: medians; ratios are taken inside a round."""
    columns = ("connections", of.differs, *COLUMNS, f"rate over {of.over}", f"CPU over {of.over}")
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for width in sorted({s.condition.connections for s in samples}):
        base = _of(samples, width, of.base)
        for way in dict.fromkeys(s.system for s in samples):
            rows = _of(samples, width, way)
            cells = [width, way, *medians(rows)]
            cells += [ratios([s.per_second for s in rows], [s.per_second for s in base])]
            cells += [ratios([s.cpu_us for s in rows], [s.cpu_us for s in base])]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines


def _of(samples: Sequence[Sample], width: int, way: str) -> list[Sample]:
    found = [s for s in samples if (s.system, s.condition.connections) == (way, width)]
    return sorted(found, key=lambda s: s.round)
