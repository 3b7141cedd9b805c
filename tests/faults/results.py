"""Results of runs, one JSON line each, so that long runs accumulate in tests/faults/results/."""

import json
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "results"
ROOT = Path(__file__).parent.parent.parent


def append(scenario: str, record: dict[str, Any], folder: Path = FOLDER) -> None:
    """One run of a scenario."""
    with (folder / f"{scenario.lower()}.jsonl").open("a") as output:
        output.write(json.dumps(record) + "\n")


def read(folder: Path = FOLDER) -> Iterator[dict[str, Any]]:
    """All runs that were noted."""
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            yield json.loads(line)


def circumstances() -> dict[str, str]:
    """Commit, machine and moment of a run."""
    command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}"
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"at": at, "commit": done.stdout.strip() or "?", "machine": machine}
