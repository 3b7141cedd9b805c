"""A service of the user's own, given by its address: looked at, never started or stopped."""

import socket
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from flashgrab.cli.stack.process import Command
from flashgrab.cli.stack.service import Service, ServiceFailed

_TIMEOUT_S = 2.0


class External(Service):
    """Stands in for an embedded service. `url` may hold a password; it is never shown."""

    def __init__(self, name: str, url: str, default_port: int) -> None:
        super().__init__(name, Path())
        self.url = url
        first = url.split(",", maxsplit=1)[0]  # KAFKA_BOOTSTRAP may be a list
        parts = urlsplit(first if "://" in first else f"//{first}")
        self._scheme = parts.scheme or name
        self._path = parts.path
        self._at = (parts.hostname or "127.0.0.1", parts.port or default_port)
        self.version = "(yours)"

    @property
    def address(self) -> str:
        return f"{self._at[0]}:{self._at[1]}"

    @property
    def bootstrap(self) -> str:
        """The address as it was given, for Kafka."""
        return self.url

    @property
    def public(self) -> Mapping[str, object]:
        shown = {"url": f"{self._scheme}://{self.address}{self._path}", "pid": None}
        return shown | ({"bootstrap": self.url} if self.name == "kafka" else {})

    def command(self) -> Command:
        raise NotImplementedError("an external service is not started here")

    def start(self) -> None:
        """Nothing to start."""

    def wait_ready(self, within_s: float = _TIMEOUT_S) -> None:
        if not self.probe():
            raise ServiceFailed(
                f"{self.name} at {self.address} does not answer: "
                f"start it, or unset its FLASHGRAB_ address to have one started here"
            )

    def probe(self) -> bool:
        try:
            socket.create_connection(self._at, _TIMEOUT_S).close()
        except OSError:
            return False
        return True

    def stop(self, hurry: Callable[[], bool] = lambda: False) -> bool:
        return True
