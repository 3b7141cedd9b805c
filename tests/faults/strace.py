"""System calls of a running process, slowed, failed or only written down, by strace."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from flashgrab.cli.stack.process import Child, Command, plain_env

ATTACH_S = 10.0
END_S = 10.0


def missing() -> str | None:
    """Why strace can't be used here, None where it can."""
    if not shutil.which("strace"):
        return "strace is not installed (apt-get install strace)"
    scope = Path("/proc/sys/kernel/yama/ptrace_scope")
    if os.geteuid() != 0 and scope.exists() and scope.read_text().strip() != "0":
        return "strace may not attach to other processes here (kernel.yama.ptrace_scope)"
    return None


class Strace:
    """Attached to a process and its children until `detach` or their end; where it `follows`, also
    to those that they make later."""

    def __init__(
        self, pid: int, log: Path, options: Sequence[str], *, follows: bool = True
    ) -> None:
        self._log = log
        self._messages = log.with_suffix(".attach")
        self._messages.unlink(missing_ok=True)
        follow = ["-f"] if follows else []
        pids = [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
        targets = [part for one in pids for part in ("-p", str(one))]
        argv = ["strace", *follow, "-y", "-s", "0", "-o", str(log), *options, *targets]
        self._child = Child(Command(argv, plain_env()), self._messages)
        self._pids = pids

    async def attached(self) -> None:
        """Until it traces every process that was there, or did: some faults end them at once."""
        ends = time.monotonic() + ATTACH_S
        while not all(self._traces(pid) for pid in self._pids):
            said = self._messages.read_text()
            if self._child.poll() is not None and " attached" in said:
                return
            if self._child.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"strace did not attach: {said}")
            await asyncio.sleep(0.005)

    def _traces(self, pid: int) -> bool:
        """A process that is gone counts as traced: backends come and go."""
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return True
        found = re.search(r"^TracerPid:\t(\d+)", status, re.MULTILINE)
        return found is not None and int(found[1]) == self._child.pid

    def detach(self) -> None:
        """Let the process go on undisturbed."""
        self._child.stop(signal.SIGINT, END_S, lambda: False)

    def ended(self) -> str:
        """What it wrote, after the process is gone."""
        ends = time.monotonic() + END_S
        while self._child.poll() is None and time.monotonic() < ends:
            time.sleep(0.005)
        self._child.kill()
        return self.text()

    def text(self) -> str:
        with contextlib.suppress(FileNotFoundError):
            return self._log.read_text(errors="replace")
        return ""
