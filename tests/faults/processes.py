"""Processes that die and processes that stand still."""

import asyncio
import os
import signal

import psutil

from flashgrab.cli.stack.process import Child
from tests.faults.fault import Fault, serves
from tests.faults.sale import until
from tests.faults.stack import ENTRY, FaultStack, HeldPart
from tests.services.frozen import freeze, thaw
from worker.steps import Step

DEATHS_S = 90
"""A worker that comes back waits for the session of the one that died, twice."""


class Kill(Fault):
    """kill -9 of one part; with `away` it comes back only by healing, else as `up` does it."""

    def __init__(self, stack: FaultStack, part: str, *, away: bool = False) -> None:
        super().__init__(stack, f"kill {part}" + (" and keep it away" if away else ""))
        self._part = part
        self._away = away
        self._child: Child | None = None

    async def inject(self) -> None:
        if self._away:
            self.stack.gate(self._part).close()
        self._child = self.stack.services[self._part].child
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGKILL)

    async def heal(self) -> None:
        assert self._child is not None
        self.stack.gate(self._part).open()
        await serves(self.stack, self._part, self._child.pid)

    def reached(self) -> bool:
        return self._child is not None and self._child.poll() == -signal.SIGKILL


class Freeze(Fault):
    """SIGSTOP of one part and all its processes."""

    def __init__(self, stack: FaultStack, part: str) -> None:
        super().__init__(stack, f"freeze {part}")
        self._part = part
        self._pids: list[int] = []
        self._stood = False

    async def inject(self) -> None:
        pid = self.stack.services[self._part].pid
        assert pid is not None
        self._pids = [pid]
        await asyncio.to_thread(freeze, pid)  # first, so that it makes no more children
        for child in psutil.Process(pid).children(recursive=True):
            self._pids.append(child.pid)
            await asyncio.to_thread(freeze, child.pid)

    async def heal(self) -> None:
        statuses = [psutil.Process(pid).status() for pid in self._pids]
        self._stood = all(status == psutil.STATUS_STOPPED for status in statuses)
        for pid in self._pids:
            thaw(pid)
        await serves(self.stack, self._part)

    def reached(self) -> bool:
        return self._stood


class Restart(Fault):
    """SIGTERM: the part ends by itself, in order, and its successor starts."""

    def __init__(self, stack: FaultStack, part: str) -> None:
        super().__init__(stack, f"restart {part}")
        self._part = part
        self._child: Child | None = None

    async def inject(self) -> None:
        self._child = self.stack.services[self._part].child
        assert self._child is not None
        os.kill(self._child.pid, signal.SIGTERM)

    async def heal(self) -> None:
        assert self._child is not None
        await serves(self.stack, self._part, self._child.pid)

    def reached(self) -> bool:
        return self._child is not None and self._child.poll() == 0


class Zombie(Fault):
    """A worker stands still with records in its hands, past its session; then it goes on."""

    def __init__(self, stack: FaultStack, part: str) -> None:
        super().__init__(stack, f"{part} stands still at fetched")
        service = stack.services[part]
        assert isinstance(service, HeldPart)
        self._service = service
        self._pid = 0
        self._stood = False

    async def inject(self) -> None:
        argv = self._service.argv
        self._service.argv = (*ENTRY, "worker", "--stop-at", "fetched")
        first = self._service.child
        assert first is not None
        first.kill()

        async def stands() -> bool:
            pid = self._service.pid
            if pid in (None, first.pid):
                return False
            assert pid is not None
            self._pid = pid
            return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)

        try:
            await until(self.name, stands, DEATHS_S)
        finally:
            self._service.argv = argv
        self._stood = True

    async def heal(self) -> None:
        thaw(self._pid)
        await serves(self.stack, self._service.name)

    def reached(self) -> bool:
        return self._stood


class DieAt(Fault):
    """Relay or worker is killed at one step of its loop, each time that it comes there."""

    def __init__(self, stack: FaultStack, part: str, step: Step) -> None:
        super().__init__(stack, f"{part} dies at {step}")
        service = stack.services[part]
        assert isinstance(service, HeldPart)
        self._service = service
        self._step = step
        self._argv = service.argv
        self._deaths: list[Child] = []

    async def inject(self) -> None:
        kind = self._service.name.partition("-")[0]
        without = self._argv[self._argv.index("--without") :] if "--without" in self._argv else ()
        self._service.argv = (*ENTRY, kind, *without, "--die-at", self._step)
        first = self._service.child
        assert first is not None
        first.kill()
        self._watching = asyncio.create_task(self._note(first))

    async def _note(self, first: Child) -> None:
        """Every child that dies by the hook; the one that was killed to begin with is not one."""
        while True:
            child = self._service.child
            new = child is not None and child is not first and child not in self._deaths
            if new and child is not None and child.poll() == -signal.SIGKILL:
                self._deaths.append(child)
            await asyncio.sleep(0.005)

    async def died(self, times: int) -> None:
        """Until it has died so often."""

        async def often() -> bool:
            return len(self._deaths) >= times

        await until(f"{self.name}, {times} times", often, DEATHS_S)

    @property
    def deaths(self) -> int:
        return len(self._deaths)

    async def heal(self) -> None:
        self._watching.cancel()
        self._service.argv = self._argv
        child = self._service.child
        assert child is not None
        child.kill()
        await serves(self.stack, self._service.name, child.pid)

    def reached(self) -> bool:
        return bool(self._deaths)
