"""Disks that are slow, fail, or are full."""

import asyncio
import errno
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tests.faults.fault import Fault, serves
from tests.faults.stack import FaultStack
from tests.faults.strace import Strace

BLOCK = 1 << 16
FULL = ("No space left on device", "Short write while writing to the AOF")
"""What servers say when nothing more fits."""
Service = Literal["valkey", "postgres"]


class SlowDisk(Fault):
    """Every flush takes so many milliseconds longer."""

    _follows = True

    def __init__(self, stack: FaultStack, service: Service, delay_ms: int) -> None:
        super().__init__(stack, f"slow disk of {service}")
        self._service = service
        self._how = f"fdatasync,fsync:delay_enter={delay_ms * 1000}"
        self._strace: Strace | None = None

    async def inject(self) -> None:
        pid = self.stack.services[self._service].pid
        assert pid is not None
        log = self.stack.folder / f"strace-{self._service}-{pid}.txt"
        options = ["-e", "trace=fdatasync,fsync", "-e", f"inject={self._how}"]
        self._strace = Strace(pid, log, options, follows=self._follows)
        await self._strace.attached()

    async def heal(self) -> None:
        assert self._strace is not None
        await asyncio.to_thread(self._strace.detach)
        await serves(self.stack, self._service)

    def reached(self) -> bool:
        return self._strace is not None and "(DELAYED)" in self._strace.text()


class FailingDisk(SlowDisk):
    """Every flush of the processes that run now fails, and ends them.

    Not of those that take their place: where the recovery of PostgreSQL 18 after a crash fails,
    too, its postmaster stands still for ever, answering "in recovery mode", until it is killed.
    """

    _follows = False

    def __init__(self, stack: FaultStack, service: Service, error: str) -> None:
        super().__init__(stack, service, 0)
        self.name = f"{error} on the disk of {service}"
        self._how = f"fdatasync,fsync:error={error}"

    def reached(self) -> bool:
        return self._strace is not None and "(INJECTED)" in self._strace.text()


class FullDisk(Fault):
    """The small file system (`small_disk`) under a service's data is filled to the last byte."""

    def __init__(self, stack: FaultStack, service: Service) -> None:
        super().__init__(stack, f"full disk of {service}")
        self._service = service
        self._filler = stack.shape.folders[service].parent / "filler"
        self._log = stack.services[service].log
        self._said_before = 0

    async def inject(self) -> None:
        self._said_before = self._complaints()
        await asyncio.to_thread(fill, self._filler)

    async def heal(self) -> None:
        self._filler.unlink()
        await serves(self.stack, self._service)

    def reached(self) -> bool:
        return self._complaints() > self._said_before

    def _complaints(self) -> int:
        said = self._log.read_text(errors="replace")
        return sum(said.count(words) for words in FULL)


def fill(path: Path) -> None:
    """Write until nothing more fits."""
    with path.open("wb", buffering=0) as filler:
        for size in (BLOCK, 4096):
            try:
                while True:
                    filler.write(b"\0" * size)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise


def mount_missing() -> str | None:
    """Why no small file system can be mounted here, None where one can."""
    if os.geteuid() != 0:
        return "a small file system can only be mounted by root"
    try:
        with small_disk(1):
            return None
    except subprocess.CalledProcessError as error:
        return f"no small file system can be mounted here: {error}"


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """A folder on a file system of this size, until the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="flashgrab-small-"))
    options = f"size={megabytes}m,mode=0755"
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
        try:
            yield folder
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
