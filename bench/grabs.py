"""`python -m bench.grabs`: a grab, side by side with other designs, in one run.

Rounds are interleaved: in each, every system under every condition, so that what disturbs the
machine disturbs all of them; who goes first changes from round to round.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench import arrivals, instructions, page, result, wrk
from bench.measure import Bench
from bench.processes import BadRun, open_files, share_cores
from bench.result import Result, Sample, say
from bench.systems import all_systems, go
from bench.systems.system import System
from bench.targets import OURS, judge


def run(
    bench: Bench, systems: Sequence[System], fsyncs: Sequence[str], rounds: int
) -> list[Sample]:
    """All rounds, by round and then by system. The floor does not see Redis: once a round."""
    samples = []
    for number in range(1, rounds + 1):
        for fsync in fsyncs:
            for system in systems if number % 2 else reversed(systems):
                if system.books is None and fsync != fsyncs[0]:
                    continue
                for sample in bench.round(system, fsync, number):
                    samples.append(sample)
                    say(line(sample))
    order = [system.name for system in systems]
    return sorted(samples, key=lambda s: (s.round, order.index(s.system)))


def line(s: Sample) -> str:
    """A sample, for those who watch."""
    where = f"{s.condition.connections:4} connections  appendfsync {s.condition.fsync:6}"
    return (
        f"round {s.round}  {s.workload}  {s.system:12} {where}  {s.per_second:8,.0f}/s  "
        f"server {s.server_us:6.1f} µs  Redis {s.redis_us:5.1f} µs"
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result, print its page. 1: books or answers are wrong, a target missed."""
    options = _options(argv)
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    open_files()
    words = sys.argv[1:] if argv is None else argv
    command = shlex.join(["python", "-m", "bench.grabs", *words])
    try:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as folder:
            Path(folder).chmod(0o755)  # PostgreSQL may run as another user
            found = measure(options, command, Path(folder))
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    text = page.markdown(found)
    say(text)
    if not options.quick or options.out:
        say("written: {} and {}".format(*result.write(found, text, options.out)))
    return 1 if bad_news(found, judged=not options.quick) else 0


def bad_news(found: Result, *, judged: bool) -> list[str]:
    """What the run says against us: the audit, and (a quick look judges nothing) missed targets."""
    bad = ["the audit" for run in found.arrivals if not run.get("audit", {}).get("ok", True)]
    if judged:
        bad += ["a target" for target in found.targets if target["reached"] is False]
        bad += [run["where"] for run in found.arrivals if not run["ok"]]
    return bad


def measure(options: argparse.Namespace, command: str, folder: Path) -> Result:
    """The whole run. Raises BadRun."""
    quick, cores = options.quick, share_cores()
    seconds, rounds = options.seconds or (1 if quick else 2), options.rounds or (1 if quick else 5)
    widths, fsyncs = ([64], ["always"]) if quick else ([64, 256], ["no", "always"])
    wanted = [s for s in all_systems() if not options.only or s.name in options.only]
    skipped = {s.name: why for s in wanted if (why := s.missing())}
    systems = [s for s in wanted if s.name not in skipped]
    bench = Bench(folder, seconds, widths, cores)
    samples = run(bench, systems, fsyncs, rounds)
    ran: list[dict[str, object]] = []
    counted: dict[str, float] = {}
    if why := "--rounds-only" if options.rounds_only else arrivals.missing():
        skipped["W4"] = why
    elif rate := _refusals(samples) // 2:
        ran = arrivals.run(folder, fsyncs, rate, cores, quick=quick)
    if why := "--rounds-only" if options.rounds_only or quick else instructions.missing():
        skipped["instructions"] = why
    else:
        counted = instructions.count(systems, bench, skipped)
    return Result(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=result.commit(),
        command=command,
        cores=str(cores),
        samples=samples,
        skipped=skipped,
        arrivals=ran,
        instructions=counted,
        targets=[{**asdict(v), "reached": v.reached} for v in judge(samples)],
        versions={**result.versions(), **_tools(systems)},
    )


def _refusals(samples: Sequence[Sample]) -> int:
    """Requests/s of ours in W2: what W4's rate is half of."""
    rates = [s.per_second for s in samples if s.system == OURS and s.workload == "W2"]
    return round(median(rates)) if rates else 0


def _tools(systems: Sequence[System]) -> dict[str, str]:
    return {"Go": go.version()} if any(s.name.startswith("go-") for s in systems) else {}


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.grabs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a first look, in under a minute")
    parser.add_argument("--rounds", type=int, help="of each system and condition (5)")
    parser.add_argument("--seconds", type=int, help="of each measurement (2)")
    parser.add_argument("--only", nargs="+", metavar="SYSTEM", help="these systems alone")
    parser.add_argument("--rounds-only", action="store_true", help="no W4, no instructions")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
