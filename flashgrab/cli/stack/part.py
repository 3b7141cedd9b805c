"""A part of Flashgrab as a supervised process, ready when its HTTP says so."""

import http.client
import signal
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from flashgrab.cli.stack.process import Command
from flashgrab.cli.stack.service import Service

_TIMEOUT_S = 2.0


class Part(Service):
    """gateway, relay, worker or centre.

    `ready_url` answers 200 once the part serves. `stop_within_s` is for draining.
    """

    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        env: Mapping[str, str],
        *,
        ready_url: str,
        metrics_url: str,
        log: Path,
        url: str | None = None,
        processes: int = 1,
        stop_within_s: float = 10.0,
    ) -> None:
        super().__init__(name, log)
        self._argv = argv
        self._env = env
        self._ready_url = ready_url
        self.url = url
        self.metrics_url = metrics_url
        self.processes = processes
        self.stop_within_s = stop_within_s
        self.version = version("flashgrab")

    @property
    def address(self) -> str:
        return urlsplit(self.url or self.metrics_url).netloc

    @property
    def public(self) -> Mapping[str, object]:
        shown: dict[str, object] = {"url": self.url} if self.url else {}
        return shown | {"metrics": self.metrics_url}

    def command(self) -> Command:
        return Command(self._argv, self._env)

    def probe(self) -> bool:
        parts = urlsplit(self._ready_url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_TIMEOUT_S)
        try:
            connection.request("GET", parts.path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def children(self) -> list[int]:
        """Process ids of its serving children, where it has several (`--processes`)."""
        if self.processes == 1 or self.pid is None:
            return []
        try:
            children = [psutil.Process(pid) for pid in _children_of(self.pid)]
            # Python's own helper of `multiprocessing` serves nobody.
            return sorted(c.pid for c in children if "resource_tracker" not in str(c.cmdline()))
        except psutil.Error:  # one of them has just ended
            return []


def _children_of(pid: int) -> list[int]:
    """The main thread's. Linux tells them; psutil asks every process of the machine for its parent,
    which ten times a second is a tenth of a core. Raises psutil.Error."""
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return [child.pid for child in psutil.Process(pid).children()]
