"""`python -m bench.way`: the whole way under load, from the socket to the ledger, hop by hop.

`flashgrab up` runs everything, with one gateway process, Valkey with `appendfsync always` and a
real Apache Kafka. wrk asks as fast as it is answered, each request another user's, while relay,
broker, worker and ledger carry the facts away on the same cores; the clock runs on until the ledger
has the last one. A process's CPU (user + system) from the first request to then, by the grants, is
its hop. A first round is not counted: a JVM compiles what it runs. At the end, the audit.
"""

import argparse
import contextlib
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from bench import campaign, result, wrk
from bench.commands import call
from bench.drain import Broker, Stack, apache
from bench.figures import spread
from bench.passes import CAMPAIGN, Blake2Passes
from bench.processes import BadRun, Cpu, cpu_of, machine_busy, open_files, require
from bench.requests import key
from bench.result import say
from bench.stack import up

HOPS = ("gateway", "valkey", "relay", "kafka", "worker", "postgres")
WIDTHS = (64, 256)
SECONDS = 4
WARM_UP_S = 2
QUOTA = 10_000_000
USERS_RATE = 50_000
"""Users a second that have a pass: more than are granted where everything shares two cores."""
TARGET_US = 50
"""CPU of all hops together, a persisted grant."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One round at one number of connections. `granting_s` is wrk's time, `seconds` lasts until the
    last grant is in the ledger; `persisted` were there when wrk ended. µs of CPU a grant by hop."""

    connections: int
    round: int
    grants: int
    granting_s: float
    seconds: float
    persisted: int
    p50_ms: float
    p99_ms: float
    user_us: dict[str, float]
    system_us: dict[str, float]
    others: float

    def hop_us(self, hop: str) -> float:
        return self.user_us[hop] + self.system_us[hop]

    @property
    def all_us(self) -> float:
        return sum(map(self.hop_us, HOPS))


@dataclass(frozen=True, slots=True)
class Result:
    """A run: where, with what, all samples, and the audit's verdict."""

    date: str
    commit: str
    command: str
    broker: str
    ok: bool
    samples: list[Sample]
    machine: dict[str, str] = field(default_factory=result.machine)
    versions: dict[str, str] = field(default_factory=result.versions)


def run(broker: Broker, rounds: int, seconds: int, folder: Path) -> tuple[list[Sample], bool]:
    """All rounds, and the audit's verdict. Raises BadRun."""
    passes, samples = Blake2Passes(), []
    data = folder / "up"
    file = campaign.write(folder / "campaign.toml", CAMPAIGN, QUOTA)
    env = {**passes.env, "FLASHGRAB_DATA": str(data)}
    external = {"FLASHGRAB_KAFKA_BOOTSTRAP": broker.bootstrap} if broker.bootstrap else {}
    with up(data, env | external, "--campaign", str(file)) as gateway:
        port = int(gateway.rpartition(":")[2])
        stack = Stack(data, env, broker.pid)
        fsync = stack.redis.config_get("appendfsync")["appendfsync"]
        require(fsync == "always", f"appendfsync is {fsync}")
        for number in range(rounds + 1):
            for width in WIDTHS if number % 2 else WIDTHS[::-1]:
                lasting = seconds if number else WARM_UP_S
                minted = folder / f"{number}-{width}.passes"
                passes.mint(minted, USERS_RATE * lasting, f"{number}-{width}-")
                requests = _requests(minted)
                sample = measure(stack, port, requests, width, number, lasting)
                requests.unlink()
                if number:
                    samples.append(sample)
                say(_line(sample))
        stack.redis.close()
        verdict = json.loads(call(env, "audit", "--drain", "60s", "--json"))
    return samples, bool(verdict["ok"])


def _requests(minted: Path) -> Path:
    """A file of requests for wrk, each pass with a key."""
    tokens = minted.read_text().splitlines()
    file = minted.with_suffix(".requests")
    file.write_text("".join(f"{token}\n{key(n)}\n" for n, token in enumerate(tokens)))
    minted.unlink()
    return file


def measure(
    stack: Stack, port: int, requests: Path, connections: int, number: int, seconds: int
) -> Sample:
    """One round, from a ledger that has everything to one that has everything. Raises BadRun."""
    before = _given(stack)
    stack.wait_for_watermark(CAMPAIGN, before)
    cpu, busy, driver = _cpu(stack), machine_busy(), wrk.cpu()
    began = time.monotonic()
    seen = wrk.drive(port, requests, connections=connections, seconds=seconds, cores=())
    driver = wrk.cpu() - driver
    persisted = int(stack.redis.hget(f"{{c:{CAMPAIGN}}}", "watermark") or 0) - before
    grants = _given(stack) - before
    where = f"{connections} connections: {seen}"
    require(seen.requests > 0 and seen.broken == seen.refused == 0, f"not all granted, {where}")
    require(0 <= grants - seen.requests <= connections, f"{grants} granted, {where}")
    stack.wait_for_watermark(CAMPAIGN, before + grants)
    lasted = time.monotonic() - began
    after, busy = _cpu(stack), machine_busy() - busy
    used = {hop: after[hop] - cpu[hop] for hop in HOPS}
    return Sample(
        connections=connections,
        round=number,
        grants=grants,
        granting_s=seen.seconds,
        seconds=lasted,
        persisted=max(0, persisted),
        p50_ms=seen.p50_us / 1000,
        p99_ms=seen.p99_us / 1000,
        user_us={hop: cpu_s.user * 1e6 / grants for hop, cpu_s in used.items()},
        system_us={hop: cpu_s.system * 1e6 / grants for hop, cpu_s in used.items()},
        others=max(0.0, (busy - sum(cpu_s.total for cpu_s in used.values()) - driver) / lasted),
    )


def _given(stack: Stack) -> int:
    return int(stack.redis.hget(f"{{c:{CAMPAIGN}}}", "seq") or 0)


def _cpu(stack: Stack) -> dict[str, Cpu]:
    """Of each hop so far. Raises BadRun where one is not known."""
    pids = {hop: stack.pid(hop) for hop in HOPS}
    require(None not in pids.values(), f"not every process is known: {pids}")
    return {hop: cpu_of(pid) for hop, pid in pids.items() if pid is not None}


def _line(s: Sample) -> str:
    hops = ", ".join(f"{hop} {s.hop_us(hop):.1f}" for hop in HOPS)
    when = f"round {s.round}" if s.round else "warm-up"
    rate = f"{s.grants / s.granting_s:,.0f} grants/s, {s.grants / s.seconds:,.0f} persisted/s"
    return f"{when}: {s.connections} connections: {rate}; {s.all_us:.1f} µs: {hops}"


def markdown(found: Result) -> str:
    """The page: machine, command, a row a hop for each number of connections, the verdict."""
    widths = sorted({s.connections for s in found.samples})
    by_width = [[s for s in found.samples if s.connections == width] for width in widths]
    facts: dict[str, Callable[[Sample], float]] = {
        "grants": lambda s: s.grants,
        "granted/s": lambda s: s.grants / s.granting_s,
        "persisted/s, to the last one": lambda s: s.grants / s.seconds,
        "persisted when wrk ended, %": lambda s: 100 * s.persisted / s.grants,
        "p50 of a grab, ms": lambda s: s.p50_ms,
        "p99 of a grab, ms": lambda s: s.p99_ms,
        "other work on the machine, cores": lambda s: s.others,
    }

    def row(name: str, value: Callable[[Sample], float], more: Sequence[str] | None = None) -> str:
        cells = [str(spread([value(s) for s in samples])) for samples in by_width]
        pairs = zip(cells, more or [""] * len(cells), strict=True)
        return f"| {name} | " + " | ".join(cell + rest for cell, rest in pairs) + " |"

    def parts(hop: str) -> list[str]:
        return [
            f", {median(s.user_us[hop] for s in samples):.1f} +"
            f" {median(s.system_us[hop] for s in samples):.1f}"
            for samples in by_width
        ]

    reached = all(median(s.all_us for s in samples) <= TARGET_US for samples in by_width)
    rounds = len({s.round for s in found.samples})
    return "\n".join(
        [
            f"# The whole way, socket to ledger: {found.date[:10]}, commit {found.commit}",
            "",
            f"Command: `{found.command}`. Method: the head of bench/way.py.",
            "",
            *(f"- {name}: {value}" for name, value in found.machine.items()),
            f"- broker: {found.broker}; nothing pinned; wrk is not counted",
            "",
            f"CPU µs a persisted grant, medians of {rounds} rounds (lowest…highest), user+system.",
            "",
            "| hop | " + " | ".join(f"{width} connections" for width in widths) + " |",
            "|---|" + "---|" * len(widths),
            *(row(hop, lambda s, hop=hop: s.hop_us(hop), parts(hop)) for hop in HOPS),  # type: ignore[misc] # mypy does not infer a default
            row("**all**", lambda s: s.all_us),
            "",
            f"Target: at most {TARGET_US} µs: **{'reached' if reached else 'missed'}**.",
            "",
            "| | " + " | ".join(f"{width} connections" for width in widths) + " |",
            "|---|" + "---|" * len(widths),
            *(row(name, value) for name, value in facts.items()),
            "",
            f"`flashgrab audit --drain 60s`: **books {'ok' if found.ok else 'NOT OK'}**.",
            "",
        ]
    )


@contextlib.contextmanager
def broker(wanted: str) -> Iterator[Broker]:
    """A real Apache Kafka of our own, or the one of `flashgrab up`."""
    if wanted == "apache":
        with apache() as kafka:
            yield kafka
    else:
        yield Broker("embedded")


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result files, print the page. 1: an answer or the books are wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.way", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="at each width (3)")
    parser.add_argument("--seconds", type=int, default=SECONDS, help=f"of wrk, each ({SECONDS})")
    parser.add_argument("--kafka", default="apache", choices=("apache", "embedded"))
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    options = parser.parse_args(argv)
    if not wrk.available():
        print(f"bench: {wrk.MISSING}", file=sys.stderr)
        return 2
    open_files()
    try:
        with (
            broker(options.kafka) as kafka,
            tempfile.TemporaryDirectory(prefix="flashgrab-way-") as name,
        ):
            Path(name).chmod(0o755)  # PostgreSQL may run as another user
            samples, ok = run(kafka, options.rounds, options.seconds, Path(name))
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    words = sys.argv[1:] if argv is None else argv
    found = Result(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=result.commit(),
        command=shlex.join(["python", "-m", "bench.way", *words]),
        broker=kafka.name,
        ok=ok,
        samples=samples,
    )
    page = markdown(found)
    say(page)
    say("written: {} and {}".format(*result.write(found, page, options.out, "way")))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
