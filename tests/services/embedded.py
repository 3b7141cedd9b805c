"""The real servers of the embedded stack for tests, each in a folder of its own on a free port.

with embedded.valkey() as server:
    server.url          # redis://:password@127.0.0.1:port/0
    server.kill()       # SIGKILL; then again(server) starts it on the same data and port
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.ports import free_port
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.service import Service
from flashgrab.cli.stack.valkey import Limiter, Valkey

PASSWORD = "only-for-tests"


@contextmanager
def valkey(*, aof: bool = False) -> Iterator[Valkey]:
    """A Valkey, ready. Without AOF it keeps nothing over a restart; with it, every write."""
    with _folder() as folder:
        server = Valkey(
            folder / "valkey",
            port=free_port(),
            password=PASSWORD,
            log=folder / "valkey.log",
            aof=aof,
        )
        with server:
            yield server


@contextmanager
def limiter() -> Iterator[Limiter]:
    """The server of the rate limits, ready; it keeps nothing over a restart."""
    with _folder() as folder:
        server = Limiter(
            folder / "limiter", port=free_port(), password=PASSWORD, log=folder / "limiter.log"
        )
        with server:
            yield server


@contextmanager
def postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A PostgreSQL with an empty database `flashgrab`, ready; about a second."""
    with _folder() as folder:
        server = Postgres(
            folder / "postgres",
            port=free_port(),
            password=PASSWORD,
            log=folder / "postgres.log",
            durable=durable,
        )
        with server:
            yield server


@contextmanager
def broker() -> Iterator[Broker]:
    """A Kafka-protocol broker, ready; a restart empties it."""
    with _folder() as folder:
        server = Broker(port=free_port(), log=folder / "kafka.log")
        with server:
            yield server


def again(server: Service) -> None:
    """Start a stopped or killed server on the same folder and port, and wait for it."""
    server.prepare()
    server.start()
    server.wait_ready()


@contextmanager
def _folder() -> Iterator[Path]:
    # Not pytest's tmp_path: pytest closes its folders to others, and PostgreSQL may run as nobody.
    folder = Path(tempfile.mkdtemp(prefix="flashgrab-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
