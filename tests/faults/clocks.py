"""A clock that is wrong for one process, by libfaketime; the others have the right one."""

import asyncio
import time
from pathlib import Path

from flashgrab.store import Store
from tests.faults.fault import Fault, serves
from tests.faults.stack import FaultStack, HeldPart, HeldValkey

CACHE_S = 1
TOLERANCE_MS = 60_000
_LIBRARIES = "*/faketime/libfaketimeMT.so.1"


def library() -> str | None:
    """Where libfaketime is."""
    return next((str(path) for path in Path("/usr/lib").glob(_LIBRARIES)), None)


def missing() -> str | None:
    """Why clocks can't be moved here, None where they can."""
    return None if library() else "libfaketime is not installed (apt-get install faketime)"


class Clock(Fault):
    """The wall clock of one part jumps; its monotonic one goes on. The part is started anew once
    to load the library, long before it jumps."""

    def __init__(self, stack: FaultStack, part: str, seconds: int) -> None:
        super().__init__(stack, f"clock of {part} {seconds:+d} s")
        service = stack.services[part]
        assert isinstance(service, HeldPart | HeldValkey)
        self._service = service
        self._seconds = seconds
        self._file = stack.folder / f"clock-{part}"
        self._moved = False

    async def prepare(self) -> None:
        """Before the sale: the part runs with a clock that can be moved."""
        self._set(0)
        self._service.env = {
            **self._service.env,
            "LD_PRELOAD": library() or "",
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(CACHE_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        pid = self._service.pid
        assert self._service.child is not None
        self._service.child.kill()
        await serves(self.stack, self._service.name, pid)

    async def inject(self) -> None:
        self._set(self._seconds)
        await asyncio.sleep(2 * CACHE_S)
        self._moved = await self._is_off()

    async def heal(self) -> None:
        self._set(0)
        await asyncio.sleep(2 * CACHE_S)
        await serves(self.stack, self._service.name)

    def reached(self) -> bool:
        return self._moved

    async def _is_off(self) -> bool:
        """Redis tells its time; of the others one can see that they have the library."""
        if not isinstance(self._service, HeldValkey):
            return _has_library(self._service.pid)
        async with Store(self._service.url) as store:
            off_ms = await store.now_ms() - time.time_ns() // 1_000_000
        return abs(off_ms - 1000 * self._seconds) < TOLERANCE_MS

    def _set(self, seconds: int) -> None:
        self._file.write_text(f"{seconds:+d}\n")


def _has_library(pid: int | None) -> bool:
    return "libfaketime" in Path(f"/proc/{pid}/maps").read_text()
