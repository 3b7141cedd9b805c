"""The embedded services one by one: what they keep, how they are set, how they refuse."""

import os
import subprocess
from pathlib import Path

import asyncpg
import pytest
from redis import Redis

from flashgrab.cli.stack.ports import PortBook, free_port, is_free
from flashgrab.cli.stack.postgres import make_traversable
from flashgrab.cli.stack.process import Child, Command, plain_env
from flashgrab.cli.stack.service import ServiceFailed
from tests.services import embedded

pytestmark = [pytest.mark.xdist_group("up")]


def test_valkey_is_durable_and_bounded() -> None:
    """The durability settings of design.md hold, and an acknowledged write survives kill -9."""
    with embedded.valkey(aof=True) as server:
        with Redis.from_url(server.url) as client:
            wanted = {
                "appendonly": "yes",
                "appendfsync": "always",
                "no-appendfsync-on-rewrite": "no",
                "save": "",
                "maxmemory-policy": "noeviction",
                "bind": "127.0.0.1",
            }
            answers = {name: client.config_get(name)[name] for name in wanted}
            assert answers == wanted
            assert int(client.config_get("maxmemory")["maxmemory"]) > 0
            client.set("left", 7)
        server.kill()
        embedded.again(server)
        with Redis.from_url(server.url) as client:
            assert client.get("left") == b"7"


def test_the_limiter_keeps_nothing_and_lets_the_oldest_go() -> None:
    """No log, no snapshot, a bound with eviction; and its memory is not that of the stock."""
    with embedded.limiter() as server, Redis.from_url(server.url) as client:
        wanted = {"appendonly": "no", "save": "", "maxmemory-policy": "allkeys-lru"}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        assert int(client.config_get("maxmemory")["maxmemory"]) == 128 * 1024 * 1024
        assert server.name == "limiter"


async def test_postgres_is_durable_and_wants_a_password() -> None:
    """fsync is on, the database exists, a wrong password is refused, a commit survives kill -9."""
    with embedded.postgres(durable=True) as server:
        connection = await asyncpg.connect(server.url)
        settings = {
            name: await connection.fetchval(f"SHOW {name}")
            for name in ("fsync", "synchronous_commit", "listen_addresses", "server_encoding")
        }
        assert settings == {
            "fsync": "on",
            "synchronous_commit": "on",
            "listen_addresses": "127.0.0.1",
            "server_encoding": "UTF8",
        }
        await connection.execute("CREATE TABLE kept AS SELECT 7 AS n")
        await connection.close()
        with pytest.raises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(server.url.replace(embedded.PASSWORD, "guess"))
        server.kill()
        embedded.again(server)
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT n FROM kept") == 7
        await connection.close()


def test_the_broker_starts_again_on_its_port() -> None:
    """After kill -9 the broker serves again on the same port."""
    with embedded.broker() as server:
        server.kill()
        assert not server.probe()
        embedded.again(server)
        assert server.probe()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the user")
def test_postgres_runs_unprivileged() -> None:
    """As root PostgreSQL runs as nobody."""
    with embedded.postgres() as server:
        assert server.pid is not None
        owner = subprocess.run(
            ["ps", "-o", "user=", "-p", str(server.pid)], capture_output=True, text=True, check=True
        )
        assert owner.stdout.strip() == "nobody"


def test_folders_are_opened_only_as_far_as_needed(tmp_path: Path) -> None:
    """Only folders on the way that lack o+x get it, nothing else of their modes changes."""
    inner = tmp_path / "closed" / "open" / "inner"
    inner.mkdir(parents=True)
    for folder, mode in ((inner, 0o700), (inner.parent, 0o755), (inner.parent.parent, 0o750)):
        folder.chmod(mode)
    tmp_path.chmod(0o711)
    opened = [path for path in make_traversable(inner) if path.is_relative_to(tmp_path)]
    assert opened == [inner.parent.parent, inner]
    assert [oct(p.stat().st_mode & 0o777) for p in opened] == ["0o751", "0o701"]


def test_what_ends_at_once_is_explained(tmp_path: Path) -> None:
    """A service that ends before it is ready raises one line with status, last words and log."""
    with embedded.valkey() as server:
        server._config.write_text("no-such-setting 1\n")
        server.stop()
        server.start()
        with pytest.raises(
            ServiceFailed, match=r"^valkey ended with exit status 1 .*; its log is "
        ):
            server.wait_ready()


def test_ports_are_remembered_while_free(tmp_path: Path) -> None:
    """A name keeps its port over restarts; one that another program has taken is replaced."""
    book = tmp_path / "ports.json"
    first = PortBook(book).of("valkey")
    assert PortBook(book).of("valkey") == first
    with embedded.broker() as taker:
        PortBook(book)
        book.write_text(f'{{"valkey": {taker._port}}}')
        again = PortBook(book).of("valkey")
        assert again != taker._port
        assert PortBook(book).of("valkey") == again
    assert is_free(free_port())


def test_a_child_has_a_session_of_its_own(tmp_path: Path) -> None:
    """A terminal's Ctrl-C cannot reach a child: it leads its own session."""
    child = Child(Command(["sleep", "60"], plain_env()), tmp_path / "log")
    try:
        assert os.getsid(child.pid) == child.pid
        assert os.getpgid(child.pid) == child.pid
    finally:
        child.kill()
