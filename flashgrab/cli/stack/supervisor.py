"""Starts services in tiers, starts again what dies, stops all in order."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flashgrab.cli.stack import leftovers, runfile
from flashgrab.cli.stack.part import Part
from flashgrab.cli.stack.process import created_at, describe_exit, on_exit
from flashgrab.cli.stack.service import Service, ServiceFailed

LOOK_EVERY_S = 0.1
"""Where the system does not tell of a death; elsewhere only what run.json says waits for it."""
CHILDREN_EVERY_S = 0.5
_NAME_WIDTH = 9


async def _nothing(_tier: int) -> None:
    """What there is to do between the tiers, most of the time."""


async def _nobody(_name: str) -> None:
    """Who is told what stops, most of the time."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits between attempts to start something again, in seconds; the first goes at once."""

    first_s: float = 0.1
    max_s: float = 5.0
    forget_after_s: float = 10.0  # it ran for so long: the next death counts as the first

    def delay_s(self, attempts: int) -> float:
        """Before attempt number `attempts` (0 is the first)."""
        return float(min(self.first_s * 2 ** (attempts - 1), self.max_s)) if attempts else 0.0


@dataclass
class _Watched:
    """What the supervisor remembers of a service."""

    service: Service
    attempts: int = 0
    ready_at: float = 0.0
    returning: bool = False
    children: list[tuple[int, float]] = field(default_factory=list)


class Supervisor:
    """Runs `tiers` of services, each tier concurrently once the one before is ready.

    `say` gets lines for people. `run_file` and `pids_file` are kept true while things change.
    """

    def __init__(
        self,
        tiers: Sequence[Sequence[Service]],
        *,
        run_file: Path,
        pids_file: Path,
        say: Callable[[str], None],
        restart: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        self._tiers = tiers
        self._watched = [_Watched(service) for tier in tiers for service in tier]
        self._run_file = run_file
        self._pids_file = pids_file
        self._say = say
        self._restart = restart
        self._backoff = backoff or Backoff()
        self._comebacks: set[asyncio.Task[None]] = set()
        self._shown: object = None
        self._hurry = False
        self._died = asyncio.Event()

    async def start(self, served: Callable[[int], Awaitable[None]] = _nothing) -> None:
        """Bring everything up. Raises ServiceFailed; then `stop` is still due.

        `served` is told the number of each tier (from 0) before the next one begins.
        """
        watched = iter(self._watched)
        for number, tier in enumerate(self._tiers):
            try:
                async with asyncio.TaskGroup() as group:
                    for _ in tier:
                        group.create_task(self._bring_up(next(watched)))
            except BaseExceptionGroup as failures:
                raise _first(failures) from None
            await served(number)

    async def watch(self) -> str:
        """Look after everything until cancelled, or, without restart, until something dies.

        Returns what died, as one line.
        """
        looked_at_children = 0.0
        while True:
            now = time.monotonic()
            for watched in self._watched:
                line = self._look(watched)
                if line is not None:
                    return line
            if now - looked_at_children >= CHILDREN_EVERY_S:
                looked_at_children = now
                self._note_children()
            self._publish()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await self._died.wait()
            self._died.clear()

    async def stop(
        self, order: Iterable[str], about: Callable[[str], Awaitable[None]] = _nobody
    ) -> None:
        """Stop by name in this order, each in its own way, by force past its time.

        `about` is told the name of each before it is stopped.
        """
        for task in self._comebacks:
            task.cancel()
        await asyncio.gather(*self._comebacks, return_exceptions=True)
        by_name = {watched.service.name: watched.service for watched in self._watched}
        for name in order:
            service = by_name[name]
            await about(name)
            if service.pid is None:
                if service.child is not None:
                    how = describe_exit(service.child.poll() or 0)
                    self._say(f"! {name} had ended with {how}; its log is {service.log}")
                continue
            began = time.perf_counter()
            by_itself = await asyncio.to_thread(service.stop, lambda: self._hurry)
            how = "stopped" if by_itself else "killed"
            self._say(f"✓ {name:<{_NAME_WIDTH}} {how}  {_ms(began)}")
            self._publish()
        self._run_file.unlink(missing_ok=True)
        self._pids_file.unlink(missing_ok=True)

    def hurry(self) -> None:
        """Wait no longer for anything that is being stopped."""
        self._hurry = True

    async def _bring_up(self, watched: _Watched) -> None:
        service = watched.service
        began = time.perf_counter()
        await asyncio.to_thread(service.prepare)
        service.start()  # in this thread, which lives as long as `up`: see Child
        if service.child is not None:
            on_exit(service.child.pid, self._died.set)
        self._publish()
        await asyncio.to_thread(service.wait_ready)
        watched.ready_at = time.monotonic()
        self._publish()
        title = f"{service.name} {service.version}".rstrip()
        self._say(f"✓ {title:<20} {service.address:<21} {_ms(began)}")

    def _look(self, watched: _Watched) -> str | None:
        """Notice a death; a line when it is the end of all."""
        child = watched.service.child
        if child is None or watched.returning or (status := child.poll()) is None:
            return None
        what = f"{watched.service.name} (process {child.pid}) ended with {describe_exit(status)}"
        if not self._restart:
            return f"{what}; its log is {watched.service.log}"
        self._say(f"! {what}; starting it again")
        _end_orphans(watched.children)
        if time.monotonic() - watched.ready_at > self._backoff.forget_after_s:
            watched.attempts = 0
        watched.returning = True
        task = asyncio.create_task(self._come_back(watched))
        self._comebacks.add(task)
        task.add_done_callback(self._comebacks.discard)
        return None

    async def _come_back(self, watched: _Watched) -> None:
        while True:
            await asyncio.sleep(self._backoff.delay_s(watched.attempts))
            watched.attempts += 1
            try:
                await self._bring_up(watched)
            except ServiceFailed as failure:
                self._say(f"! {failure}; trying again")
                # One that hangs without serving would keep its port from the next attempt.
                await asyncio.to_thread(watched.service.kill)
            else:
                watched.returning = False
                return

    def _note_children(self) -> None:
        for watched in self._watched:
            if isinstance(watched.service, Part) and watched.service.pid is not None:
                pids = watched.service.children()
                watched.children = [(pid, at) for pid in pids if (at := created_at(pid))]

    def _publish(self) -> None:
        """Write run.json and pids.json where something has changed."""
        shown = runfile.describe(watched.service for watched in self._watched)
        if shown == self._shown:
            return
        self._shown = shown
        runfile.write(self._run_file, shown)
        leftovers.note(self._pids_file, self._running())

    def _running(self) -> Iterable[tuple[str, int, float]]:
        for watched in self._watched:
            child = watched.service.child
            if child is not None and child.poll() is None:
                yield watched.service.name, child.pid, child.created_at
            for pid, at in watched.children:
                yield watched.service.name, pid, at


def _end_orphans(children: Iterable[tuple[int, float]]) -> None:
    """End the serving children of a killed parent; they would hold its port."""
    for pid, at in children:
        if created_at(pid) == at:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)


def _first(failures: BaseExceptionGroup) -> BaseException:
    first = failures.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _ms(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.0f} ms"
