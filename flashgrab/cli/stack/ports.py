"""Ports: which are free, and which ones a data folder has chosen."""

import json
import secrets
import socket
from pathlib import Path

import psutil

from flashgrab.cli.stack.service import ServiceFailed

LOOPBACK = "127.0.0.1"
# Below the ports that Linux (32768) and macOS (49152) give to outgoing connections, so that none
# of those takes a remembered port while its service is down.
_FIRST, _LAST = 20_000, 32_000
_TRIES_MAX = 200
_given: set[int] = set()
"""By this process. What was chosen is not taken before its service starts: of twenty that are drawn
for one stack two are the same once in sixty times."""


def is_free(port: int) -> bool:
    """Whether a server could listen on 127.0.0.1:port now."""
    with socket.socket() as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: TIME_WAIT is no hindrance
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nothing listens on and that was not given before, while there are such.

    Raises ServiceFailed when none turns up."""
    for _ in range(_TRIES_MAX):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if port not in _given and is_free(port):
            _given.add(port)
            return port
    raise ServiceFailed(f"no free port between {_FIRST} and {_LAST} on {LOOPBACK}")


class PortBook:
    """The ports of a data folder: chosen once, kept while they are free."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._ports: dict[str, int] = json.loads(path.read_text())
        except (OSError, ValueError):
            self._ports = {}

    def of(self, name: str) -> int:
        """The port of this name: the remembered one if it is free, else a new free one."""
        port = self._ports.get(name)
        if port is None or not is_free(port):
            port = free_port()
            while port in self._ports.values():  # of a service that is down now
                port = free_port()
            self._ports[name] = port
            self._path.write_text(json.dumps(self._ports, indent=1) + "\n")
        return port


def demand(port: int, option: str) -> int:
    """The port that the user asked for. Raises ServiceFailed naming who has it."""
    if is_free(port):
        return port
    raise ServiceFailed(
        f"port {port} on {LOOPBACK} is in use{owner(port)}: "
        f"stop that, or choose another with {option} N (0 picks a free one)"
    )


def owner(port: int) -> str:
    """` by NAME (process N)` of who listens there; empty where that can't be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            local = connection.laddr
            if connection.status == psutil.CONN_LISTEN and local and local.port == port:
                name = psutil.Process(connection.pid).name() if connection.pid else "?"
                return f" by {name} (process {connection.pid})"
    except psutil.Error:
        pass
    return ""
