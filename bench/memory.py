"""`python -m bench.memory`: what a holder and a connection cost, in bytes and in time.

Holders: a campaign of 1,000,000 coupons is granted by the real lua/grab.lua in batches. Then what
Redis took for it, what the gateway takes for its filter of holders (it loads it when the first
stranger asks), and for 100,000 of the holders once it has answered them.

Connections: a gateway with 100 campaigns and 10,000 idle connections, each of which has asked once
before: its memory; and p50 and p99 of 256 connections that grab (wrk, all granted) there and at a
gateway without the idle ones, in turns.
"""

import argparse
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from bench import holders, idle, result, wrk
from bench.figures import Spread, number, ratios, spread
from bench.holders import Holders
from bench.idle import ACTIVE, Active, Connections, Load
from bench.passes import Blake2Passes
from bench.processes import BadRun, open_files, share_cores
from bench.result import say
from bench.systems.ours import Ours

HOLDERS = 1_000_000
IDLE = 10_000
RSS_MB_MAX = 200
P99_RATIO_MAX = 1.5


@dataclass(frozen=True, slots=True)
class Result:
    """A run."""

    date: str
    commit: str
    command: str
    cores: str
    connections: Connections
    holders: Holders
    machine: dict[str, str] = field(default_factory=result.machine)
    versions: dict[str, str] = field(default_factory=result.versions)

    def rows(self, *, beside: bool) -> list[Active]:
        """The rounds with idle connections, or without."""
        return [s for s in self.connections.active if bool(s.idle) is beside]

    @property
    def p99_ratio(self) -> Spread:
        """With idle connections over without, round by round."""
        mine, alone = self.rows(beside=True), self.rows(beside=False)
        return ratios([s.p99_ms for s in mine], [s.p99_ms for s in alone])

    @property
    def rss_mb(self) -> float:
        """The most that the gateway took beside idle connections, under load or not."""
        return max(self.connections.idle_mb, *(s.rss_mb for s in self.rows(beside=True)))


def verdicts(found: Result) -> list[tuple[str, str, bool]]:
    """Target of issue 4, what was seen, whether it is reached."""
    ratio = found.p99_ratio
    return [
        (f"gateway below {RSS_MB_MAX} MB", f"{found.rss_mb:.0f} MB", found.rss_mb < RSS_MB_MAX),
        (
            f"p99 beside idle connections at most {P99_RATIO_MAX} times that without",
            str(ratio),
            ratio.median <= P99_RATIO_MAX,
        ),
    ]


def page(found: Result) -> str:
    """Machine, command, both tables, the targets."""
    return "\n".join([*_head(found), *_holders(found.holders), *_connections(found)]) + "\n"


def _head(found: Result) -> Iterator[str]:
    yield f"# Memory and connections: {found.date[:10]}, commit {found.commit}"
    yield from ("", f"Command: `{found.command}`. Method: the head of bench/memory.py.", "")
    yield from (f"- {name}: {value}" for name, value in found.machine.items())
    yield f"- pinning: {found.cores}"
    yield "- versions: " + ", ".join(f"{k} {v}" for k, v in found.versions.items())
    others = spread([s.others for s in found.connections.active])
    yield f"- CPU used by everything else meanwhile: {others} cores"


def _holders(h: Holders) -> Iterator[str]:
    yield from ("", f"## {h.holders:,} holders", "", "| what | bytes each |", "|---|---|")
    yield f"| Redis: all that used_memory grew by, outbox full | {number(h.redis)} |"
    yield f"| Redis: the same once the ledger has all | {number(h.redis_lasting)} |"
    yield f"| of that the hash of holders (MEMORY USAGE) | {number(h.hash)} |"
    yield f"| the outbox before it was trimmed (MEMORY USAGE) | {number(h.outbox)} |"
    yield f"| gateway: the filter of all holders (RSS) | {number(h.filter)} |"
    yield f"| gateway: one of {h.answered:,} that it answered (RSS) | {number(h.known)} |"
    yield ""
    yield f"Gateway: {h.gateway_start_mb:.0f} MB at first, {h.gateway_end_mb:.0f} MB at the end."
    yield f"A stranger cost no script call {h.loaded_s:.1f} s after the first one had asked."


def _connections(found: Result) -> Iterator[str]:
    seen, width = found.connections, max(s.idle for s in found.connections.active)
    yield from ("", f"## {seen.campaigns} campaigns, {ACTIVE} connections that grab", "")
    yield "| idle | rounds | requests/s | server µs | p50 ms | p99 ms | gateway MB |"
    yield "|---|---|---|---|---|---|---|"
    for rows in (found.rows(beside=False), found.rows(beside=True)):
        yield f"| {rows[0].idle:,} | {len(rows)} | " + " | ".join(_spreads(rows)) + " |"
    each_kb = (seen.idle_mb - seen.start_mb) * 1024 / width
    yield ""
    yield f"Gateway: {seen.start_mb:.0f} MB without connections, {seen.idle_mb:.0f} MB with"
    yield f"{width:,} idle ones: {each_kb:.1f} KB each."
    yield from ("", "| target | seen | |", "|---|---|---|")
    for target, value, reached in verdicts(found):
        yield f"| {target} | {value} | {'reached' if reached else '**missed**'} |"


def _spreads(rows: Sequence[Active]) -> list[str]:
    names = ("per_second", "server_us", "p50_ms", "p99_ms", "rss_mb")
    return [str(spread([getattr(s, name) for s in rows])) for name in names]


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result, print its page. 1: a wrong answer or book, a target missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--holders", type=int, default=HOLDERS)
    parser.add_argument("--idle", type=int, default=IDLE, help="open connections (10,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each measurement (2)")
    parser.add_argument("--fsync", choices=("no", "always"), default="always")
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    options = parser.parse_args(argv)
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    open_files()
    words = sys.argv[1:] if argv is None else argv
    ours, cores = Ours(Blake2Passes()), share_cores()
    load = Load(options.idle, options.rounds, options.seconds, options.fsync, cores)
    try:
        with tempfile.TemporaryDirectory(prefix="flashgrab-bench-") as name:
            connections = idle.measure(ours, Path(name), load)
            held = holders.measure(ours, Path(name), cores, options.holders)
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    found = Result(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=result.commit(),
        command=shlex.join(["python", "-m", "bench.memory", *words]),
        cores=str(cores),
        connections=connections,
        holders=held,
    )
    text = page(found)
    say(text)
    say("written: {} and {}".format(*result.write(found, text, options.out, "memory")))
    return 0 if all(reached for _, _, reached in verdicts(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
