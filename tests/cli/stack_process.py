"""Runs `up` as a process of its own and reads what it says."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flashgrab.cli.stack.process import created_at

WITH_FAKES = [sys.executable, str(Path(__file__).with_name("up_with_fakes.py"))]
DEADLINE_S = 40.0


class Running:
    """A started `up`: its output in files, its run.json, and waiting with a deadline."""

    def __init__(
        self,
        data: Path,
        arguments: Sequence[str],
        *,
        program: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None,
    ) -> None:
        self.data = data
        self._outputs = Path(tempfile.mkdtemp(prefix="flashgrab-said-"))
        ports = [] if "--port" in arguments else ["--port", "0"]
        ports += [] if "--centre-port" in arguments else ["--centre-port", "0"]
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
        with (self._outputs / "out").open("wb") as out, (self._outputs / "err").open("wb") as err:
            self.process = subprocess.Popen(
                [*program, "--data", str(data), *ports, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**clean, **env},
                cwd=cwd or self._outputs,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Everything on stdout so far."""
        return (self._outputs / "out").read_text()

    @property
    def complained(self) -> str:
        """Everything on stderr so far."""
        return (self._outputs / "err").read_text()

    def shown(self) -> dict[str, list[dict[str, Any]]]:
        """run.json as it is now."""
        shown: dict[str, list[dict[str, Any]]] = json.loads((self.data / "run.json").read_text())
        return shown

    def pids(self) -> list[int]:
        """Of everything that run.json lists, without `up` itself and services of one's own."""
        shown = self.shown()
        return [e["pid"] for name in shown if name != "up" for e in shown[name] if e["pid"]]

    def until(self, what: Callable[[], object]) -> None:
        """Wait until it is true; fails with the output past the deadline."""
        until(what, lambda: f"{self.said}\n{self.complained}")

    def ready(self) -> "Running":
        """Wait for the line `ready …`."""
        self.until(lambda: "\nready " in self.said or self.process.poll() is not None)
        assert "\nready " in self.said, f"{self.said}\n{self.complained}"
        return self

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Signal `up` alone and wait; its exit status."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> int:
        """Wait for the end; the exit status."""
        return self.process.wait(DEADLINE_S)


def until(what: Callable[[], object], explain: Callable[[], str] = str) -> None:
    """Wait until it is true, at most DEADLINE_S."""
    end = time.monotonic() + DEADLINE_S
    while not what():
        assert time.monotonic() < end, f"waited {DEADLINE_S:.0f} s in vain\n{explain()}"
        time.sleep(0.02)


def alive(pids: Sequence[int]) -> list[int]:
    """Those that still run."""
    return [pid for pid in pids if created_at(pid) is not None]


@contextmanager
def up(
    data: Path,
    *arguments: str,
    program: Sequence[str] = WITH_FAKES,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Running]:
    """A started `up`, ended at the end whatever happened."""
    running = Running(data, arguments, program=program, env=env or {}, cwd=cwd)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.send_signal(signal.SIGTERM)
            try:
                running.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                running.process.kill()


@contextmanager
def data_folder() -> Iterator[Path]:
    """A path for the state of `up` that does not exist yet.

    Not below pytest's tmp_path, which is closed to others: PostgreSQL may run as nobody.
    """
    parent = Path(tempfile.mkdtemp(prefix="flashgrab-up-"))
    try:
        yield parent / "data"
    finally:
        shutil.rmtree(parent, ignore_errors=True)
