"""What the supervisor knows of anything it runs: start, ready, stop, version, pid, address."""

import abc
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from flashgrab.cli.stack.process import Child, Command, describe_exit

_PROBE_EVERY_S = 0.025
READY_WITHIN_S = 30.0


class ServiceFailed(Exception):
    """A service cannot come up. The message is one line that says what and what to do."""


class Service(abc.ABC):
    """One supervised process. Methods block; `start` belongs to the main thread (see `Child`)."""

    stop_signal = signal.SIGTERM
    stop_within_s = 10.0

    def __init__(self, name: str, log: Path) -> None:
        self.name = name
        self.log = log
        self.version = ""
        self.child: Child | None = None

    @property
    @abc.abstractmethod
    def address(self) -> str:
        """host:port, for people."""

    @property
    @abc.abstractmethod
    def public(self) -> Mapping[str, object]:
        """What run.json says besides the process id: addresses, no secrets."""

    def prepare(self) -> None:  # noqa: B027 -- most have nothing to prepare
        """Files and folders that the process needs. Idempotent; may run in any thread."""

    @abc.abstractmethod
    def command(self) -> Command:
        """What to start, after `prepare`."""

    @abc.abstractmethod
    def probe(self) -> bool:
        """Does it serve now? One attempt of at most 2 s; fills `version`."""

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.child.pid if self.child and self.child.poll() is None else None

    def start(self) -> None:
        """Start the process; `prepare` has run. Raises ServiceFailed."""
        command = self.command()
        try:
            self.child = Child(command, self.log)
        except OSError as error:
            raise ServiceFailed(f"{self.name} cannot be started: {error}") from error

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        """Probe until it serves. Raises ServiceFailed when it ends or takes longer."""
        until = time.monotonic() + within_s
        while not self.probe():
            status = self.child.poll() if self.child else None
            if status is not None:
                raise ServiceFailed(
                    f"{self.name} ended with {describe_exit(status)} before it was ready"
                    f"{self._last_words()}; its log is {self.log}"
                )
            if time.monotonic() > until:
                raise ServiceFailed(
                    f"{self.name} was not ready within {within_s:.0f} s; its log is {self.log}"
                )
            time.sleep(_PROBE_EVERY_S)

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> bool:
        """End the process in its own way, by force past `stop_within_s`. True: by itself."""
        if self.child is None:
            return True
        return self.child.stop(self.stop_signal, self.stop_within_s, hurry)

    def kill(self) -> None:
        """SIGKILL, as a fault would; for tests."""
        if self.child is not None:
            self.child.kill()

    def __enter__(self) -> "Service":
        self.prepare()
        self.start()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _last_words(self) -> str:
        try:
            lines = self.log.read_text(errors="replace")[-4000:].strip().splitlines()
        except OSError:
            return ""
        return f" ({lines[-1].strip()[:200]})" if lines else ""
