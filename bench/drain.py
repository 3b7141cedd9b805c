"""`python -m bench.drain`: from outbox to ledger, in facts a second.

`flashgrab up` runs everything. In each round its relay is stopped (SIGSTOP), a fresh campaign's
outbox is filled by the real lua/grab.lua, the relay goes on, and the clock runs until Redis knows
that the ledger has every fact (the watermark). Then the audit.

A first round, with half of the facts, is not counted: a broker on a JVM takes three times its CPU
until it has compiled what it runs.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import redis

from bench import campaign as campaign_file
from bench import result
from bench.commands import call, plain_env
from bench.figures import spread
from bench.processes import ROOT, BadRun, cpu_of, machine_busy, require
from bench.result import say
from bench.stack import up

FACTS = 200_000
REQUESTS = 50
"""Requests of one script call, as a busy gateway has them."""
PIPELINED = 20
LOOK_S = 0.05
DRAIN_S_MAX = 600
PARTS = ("relay", "kafka", "worker", "postgres", "valkey")


@dataclass(frozen=True, slots=True)
class Sample:
    """One round. CPU in µs a fact; `others` is what the rest of the machine used, in cores."""

    broker: str
    round: int
    facts: int
    seconds: float
    cpu_us: dict[str, float]
    others: float

    @property
    def per_second(self) -> float:
        return self.facts / self.seconds


@dataclass(frozen=True, slots=True)
class Result:
    """A run: where, with what, all samples, and the audit's verdict."""

    date: str
    commit: str
    command: str
    ok: bool
    samples: list[Sample]
    machine: dict[str, str] = field(default_factory=result.machine)


class Stack:
    """A running `flashgrab up`, found by what it wrote into its folder; `kafka_pid` where the
    broker is not its own."""

    def __init__(self, data: Path, env: dict[str, str], kafka_pid: int | None) -> None:
        self.env = env
        self._data = data
        self._kafka_pid = kafka_pid
        secrets = dict(
            line.partition("=")[::2] for line in (data / "secrets.env").read_text().splitlines()
        )
        url = secrets["FLASHGRAB_REDIS_URL"].strip("\"'")
        self.redis = redis.Redis.from_url(url, decode_responses=True)

    def pid(self, part: str) -> int | None:
        """Process id of a part, None where it is not known."""
        if part == "kafka" and self._kafka_pid is not None:
            return self._kafka_pid
        found = json.loads((self._data / "run.json").read_text())[part]
        return found[0].get("pid") if found else None

    def cpu(self) -> dict[str, float]:
        """CPU seconds of each part so far."""
        pids = {part: self.pid(part) for part in PARTS}
        return {part: cpu_of(pid).total for part, pid in pids.items() if pid is not None}

    def wait_for_watermark(self, campaign: str, seq: int) -> None:
        """Until Redis knows that the ledger has the facts up to `seq`. Raises BadRun."""
        ends = time.monotonic() + DRAIN_S_MAX
        while int(self.redis.hget(f"{{c:{campaign}}}", "watermark") or 0) < seq:
            require(time.monotonic() < ends, f"{campaign} is not in the ledger: {DRAIN_S_MAX} s")
            time.sleep(LOOK_S)


def fill(stack: Stack, campaign: str, facts: int) -> None:
    """Grants for so many users, REQUESTS a call. Raises BadRun unless all are granted."""
    client = stack.redis
    sha = client.script_load((ROOT / "lua" / "grab.lua").read_text())
    key = f"{{c:{campaign}}}"
    touched = [key, f"{key}:holders", f"{key}:devices", f"{key}:outbox", f"{key}:r:1", f"{key}:r:1"]
    closes_at = client.hget(f"{key}:r:1", "closes_at")
    head = ["1", "1", client.info("server")["run_id"], "0", "1", "0", closes_at]
    calls = [range(at, min(at + REQUESTS, facts)) for at in range(0, facts, REQUESTS)]
    for at in range(0, len(calls), PIPELINED):
        with client.pipeline(transaction=False) as pipe:
            for users in calls[at : at + PIPELINED]:
                args = [x for n in users for x in (f"user-{n}", f"device-{n}", f"key-{n}")]
                pipe.evalsha(sha, len(touched), *touched, *head, *args)
            for reply in pipe.execute():
                require(reply[0] == 0, f"grab.lua answered {reply[:7]}")
    given = int(client.hget(key, "seq") or 0)
    require(given == facts, f"{given} granted of {facts}")


def measure(stack: Stack, broker: str, number: int, facts: int, folder: Path) -> Sample:
    """One round. Raises BadRun where the facts do not arrive."""
    campaign = f"drain-{number}"
    file = campaign_file.write(folder / f"{campaign}.toml", campaign, facts)
    relay = stack.pid("relay")
    require(relay is not None, "no relay runs")
    assert relay is not None
    os.kill(relay, signal.SIGSTOP)
    try:
        call(stack.env, "campaign", "create", "--publish", str(file))
        fill(stack, campaign, facts)
        before, busy = stack.cpu(), machine_busy()
        began = time.monotonic()
    finally:
        os.kill(relay, signal.SIGCONT)
    stack.wait_for_watermark(campaign, facts)
    seconds = time.monotonic() - began
    after = stack.cpu()
    busy = machine_busy() - busy
    used = {part: after[part] - before[part] for part in before}
    return Sample(
        broker=broker,
        round=number,
        facts=facts,
        seconds=seconds,
        cpu_us={part: seconds_ * 1e6 / facts for part, seconds_ in used.items()},
        others=max(0.0, (busy - sum(used.values())) / seconds),
    )


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to measure: its address ("" for the embedded one), its pid where we started it."""

    name: str
    bootstrap: str = ""
    pid: int | None = None


def run(broker: Broker, rounds: int, facts: int) -> tuple[list[Sample], bool]:
    """All rounds against one broker, and the audit's verdict."""
    samples = []
    with tempfile.TemporaryDirectory(prefix="flashgrab-drain-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL may run as another user
        data = folder / "up"
        env = {**plain_env(), "FLASHGRAB_DATA": str(data)}
        external = {"FLASHGRAB_KAFKA_BOOTSTRAP": broker.bootstrap} if broker.bootstrap else {}
        with up(data, env | external):
            stack = Stack(data, env, broker.pid)
            measure(stack, broker.name, 0, max(1, facts // 2), folder)
            for number in range(1, rounds + 1):
                samples.append(sample := measure(stack, broker.name, number, facts, folder))
                used = ", ".join(f"{part} {us:.1f}" for part, us in sample.cpu_us.items())
                rate = f"{sample.per_second:,.0f} facts/s"
                say(f"{broker.name}: round {number}: {rate}; CPU µs: {used}")
            stack.redis.close()
            verdict = json.loads(call(env, "audit", "--drain", "60s", "--json"))
    return samples, bool(verdict["ok"])


@contextlib.contextmanager
def apache() -> Iterator[Broker]:
    """A real Apache Kafka of our own."""
    from tests.services.apache_kafka import ApacheKafka

    with (
        tempfile.TemporaryDirectory(prefix="flashgrab-kafka-") as folder,
        ApacheKafka(Path(folder)) as kafka,
    ):
        assert kafka.process is not None
        yield Broker("Apache Kafka", kafka.bootstrap, kafka.process.pid)


@contextlib.contextmanager
def brokers(wanted: str) -> Iterator[list[Broker]]:
    """The brokers to measure; a real Apache Kafka is started for it."""
    if wanted == "apache":
        with apache() as broker:
            yield [Broker("embedded"), broker]
    else:
        yield [Broker(wanted, wanted)] if wanted else [Broker("embedded")]


def markdown(found: Result) -> str:
    """The page: machine, command, a row a broker, the audit's verdict."""
    lines = [
        f"# Drain, outbox to ledger: {found.date[:10]}, commit {found.commit}",
        "",
        f"Command: `{found.command}`. Method: the head of bench/drain.py.",
        "",
        *(f"- {name}: {value}" for name, value in found.machine.items()),
        "",
        "Medians of the rounds, lowest and highest in brackets. µs are CPU microseconds a fact.",
        "",
        "| broker | rounds | facts | facts/s | " + " | ".join(f"{p} µs" for p in PARTS) + " |"
        " others, cores |",
        "|---|---|---|---|" + "---|" * (len(PARTS) + 1),
    ]
    for broker in dict.fromkeys(s.broker for s in found.samples):
        rows = [s for s in found.samples if s.broker == broker]
        cells: list[object] = [broker, len(rows), f"{rows[0].facts:,}"]
        cells.append(spread([s.per_second for s in rows]))
        for part in PARTS:
            known = [s.cpu_us[part] for s in rows if part in s.cpu_us]
            cells.append(spread(known) if known else "not measured")
        cells.append(spread([s.others for s in rows]))
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    verdict = "books ok" if found.ok else "BOOKS NOT OK"
    lines += ["", f"`flashgrab audit --drain 60s` after the last round: **{verdict}**.", ""]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result files, print the page. 1: the books are wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.drain", description=__doc__)
    parser.add_argument("--facts", type=int, default=FACTS, help=f"of each round ({FACTS})")
    parser.add_argument("--rounds", type=int, default=3, help="of each broker (3)")
    parser.add_argument(
        "--kafka", default="", help='host:port of a broker, or "apache" to start one beside ours'
    )
    parser.add_argument("--out", type=Path, help="result file, instead of bench/results/…")
    options = parser.parse_args(argv)
    samples: list[Sample] = []
    ok = True
    try:
        with brokers(options.kafka) as wanted:
            for broker in wanted:
                some, good = run(broker, options.rounds, options.facts)
                samples += some
                ok = ok and good
    except BadRun as bad:
        print(f"bench: {bad}", file=sys.stderr)
        return 1
    words = sys.argv[1:] if argv is None else argv
    found = Result(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=result.commit(),
        command=" ".join(["python -m bench.drain", *words]),
        ok=ok,
        samples=samples,
    )
    page = markdown(found)
    say(page)
    say("written: {} and {}".format(*result.write(found, page, options.out, "drain")))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
