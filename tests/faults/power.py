"""A power cut of the Redis machine: the process dies, and of its log only what was flushed stays.

kill -9 alone loses nothing: what was written is the kernel's. So the log is cut, at the last
completed flush or at a random byte after it, as a disk may have got some of the rest.
"""

import asyncio
import os
import random
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.faults.fault import Fault, serves
from tests.faults.stack import FaultStack
from tests.faults.strace import Strace

WATCH_S = 0.4
"""How long it writes under strace before the cut."""
FLUSH_DELAY_US = 3000
"""Makes the cut fall between a write and its flush, as nearly none would otherwise."""

_LINE = re.compile(
    r"^(?P<pid>\d+) +(?:<\.\.\. )?(?P<call>\w+)"
    r"(?:\(\d+<(?P<path>[^>]*)>.*?| resumed>.*?)(?:= (?P<result>-?\d+).*|<unfinished \.\.\.>)?$"
)


@dataclass
class Flushed:
    """What a trace says of one file: bytes written since it began, and of them those flushed."""

    written: int = 0
    flushed: int = 0
    flushes: int = 0


def read_trace(text: str, path: str) -> Flushed:
    """Follow writes and flushes of one file, also where they overlap in several threads."""
    found = Flushed()
    pending: dict[str, str] = {}  # by thread: a call of this file that has not ended
    covers: dict[str, int] = {}  # by thread: bytes written when its flush began
    for line in text.splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        pid, call, result = match["pid"], match["call"], match["result"]
        if match["path"] is not None:
            if match["path"] != path:
                continue
            pending[pid] = call
            covers[pid] = found.written
        if result is None or pending.get(pid) != call:
            continue
        del pending[pid]
        if "write" in call and int(result) > 0:
            found.written += int(result)
        elif "sync" in call and int(result) == 0:
            found.flushed = max(found.flushed, covers[pid])
            found.flushes += 1
    return found


class PowerCut(Fault):
    """Valkey's machine loses power; `cut_bytes` is what its log lost."""

    def __init__(
        self, stack: FaultStack, where: Literal["flushed", "later"], chance: random.Random
    ) -> None:
        super().__init__(stack, f"power cut of valkey, log cut {where}")
        self._where = where
        self._chance = chance
        self._pid = 0
        self.cut_bytes = 0
        self.trace = Flushed()
        self._done = False

    async def inject(self) -> None:
        child = self.stack.valkey.child
        assert child is not None
        self._pid = child.pid
        path = log_of(self.stack.valkey.folder)
        calls = "trace=write,pwrite64,writev,fdatasync,fsync"
        slow = f"inject=fdatasync:delay_enter={FLUSH_DELAY_US}"
        log = self.stack.folder / f"strace-power-{self._pid}.txt"
        strace = Strace(self._pid, log, ["-e", calls, "-e", slow])
        await strace.attached()
        await asyncio.sleep(WATCH_S)
        self.stack.valkey.gate.on_start = lambda: self._cut(strace, path)
        os.kill(self._pid, signal.SIGKILL)

    def _cut(self, strace: Strace, path: Path) -> None:
        self.trace = read_trace(strace.ended(), str(path))
        size = path.stat().st_size
        unflushed = self.trace.written - self.trace.flushed
        keep = self._chance.randint(0, unflushed) if self._where == "later" else 0
        self.cut_bytes = unflushed - keep
        os.truncate(path, size - self.cut_bytes)
        self._done = True

    async def heal(self) -> None:
        await serves(self.stack, "valkey", self._pid)

    def reached(self) -> bool:
        """The flushes of an everysec server may all fall outside the time it was watched."""
        return self._done and self.trace.written > 0


def log_of(folder: Path) -> Path:
    """The append-only file that is written now."""
    (path,) = (folder / "appendonlydir").glob("*.incr.aof")
    return path.resolve()
