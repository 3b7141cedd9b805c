"""`pids.json`: what runs, so that the next `up` can end what a killed one left behind.

On Linux children end with their parent (`Child`); this is for the rest, and for macOS.
"""

import contextlib
import json
import signal
from collections.abc import Iterable
from pathlib import Path

import psutil

from flashgrab.cli.stack.process import created_at
from flashgrab.cli.stack.wholefile import write_whole

# psutil derives the start from the boot time, which a clock correction may shift a little.
_SAME_START_S = 1.0
_TERM_WITHIN_S = 10.0
_KILL_WITHIN_S = 5.0


def note(path: Path, running: Iterable[tuple[str, int, float]]) -> None:
    """Write down (name, process id, start in seconds since 1970) of everything that runs."""
    rows = [{"name": name, "pid": pid, "created_at": start} for name, pid, start in running]
    write_whole(path, json.dumps(rows, indent=1) + "\n")


def clear(path: Path) -> list[str]:
    """End what is noted and still there; "name (process N)" of each. Never a namesake's process."""
    left = [
        (str(row["name"]), process)
        for row in _read(path)
        if (process := _find(int(row["pid"]), float(row["created_at"]))) is not None
    ]
    for name, process in left:
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
    _, stubborn = psutil.wait_procs([process for _, process in left], _TERM_WITHIN_S)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, _KILL_WITHIN_S)
    path.unlink(missing_ok=True)
    return [f"{name} (process {process.pid})" for name, process in left]


def _read(path: Path) -> list[dict[str, str]]:
    try:
        rows = json.loads(path.read_text())
    except (OSError, ValueError):
        return []
    return [r for r in rows if isinstance(r, dict) and {"name", "pid", "created_at"} <= r.keys()]


def _find(pid: int, start: float) -> psutil.Process | None:
    now = created_at(pid)
    if now is None or abs(now - start) > _SAME_START_S:
        return None
    with contextlib.suppress(psutil.Error):
        return psutil.Process(pid)
    return None
