"""`flashgrab doctor`: every check passes on a good set-up, and fails on one that is made bad."""

import asyncio
import json
import os
import re
import socket
import subprocess
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest
import redis

from flashgrab import keys, scripts
from flashgrab.broker import ensure_topics
from flashgrab.cli import doctor
from flashgrab.cli.checkup import machine, services
from flashgrab.cli.checkup.hints import HINTS, Finding
from flashgrab.cli.stack.folder import FolderVersion
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.clock import SystemClock
from flashgrab.ledger.migrate import migrate
from flashgrab.model import Round
from flashgrab.store import Store
from tests.centre.serving import StillClock
from tests.e2e.running import COMMAND, Stack
from tests.services import embedded

pytestmark = pytest.mark.anyio

NOBODY = 1
"""A port that nobody listens on."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def valkey() -> Iterator[Valkey]:
    with embedded.valkey(aof=True) as server:
        with redis.Redis.from_url(server.url) as client:
            client.script_load(scripts.GRAB.text)  # as a gateway does when it connects
        yield server


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with embedded.postgres(durable=True) as server:
        asyncio.run(migrate(server.url))
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with embedded.broker() as server:
        yield server


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FLASHGRAB_"):
            monkeypatch.delenv(name)


async def states(looking: Awaitable[list[Finding]]) -> dict[str, str]:
    """What is not well, by check."""
    return {f.check: f.state for f in await looking if f.state != "ok"}


def of(found: list[Finding]) -> dict[str, str]:
    return {f.check: f.state for f in found if f.state != "ok"}


# -- Redis ----------------------------------------------------------------------------------------


async def test_redis_as_up_starts_it_is_well(valkey: Valkey) -> None:
    """Nothing to change."""
    assert await states(services.redis(valkey.url, SystemClock())) == {}


@pytest.mark.parametrize(
    "name, value, found",
    [
        ("appendonly", "no", {"redis-aof": "bad"}),
        ("appendfsync", "everysec", {"redis-aof": "bad"}),
        ("no-appendfsync-on-rewrite", "yes", {"redis-rewrite": "bad"}),
        ("maxmemory-policy", "allkeys-lru", {"redis-eviction": "bad"}),
        ("maxmemory", "300000000", {"redis-memory": "bad"}),
        ("maxmemory", "0", {"redis-memory": "warn"}),
        ("save", "3600 1", {"redis-save": "warn"}),
    ],
)
async def test_each_setting_of_redis_that_breaks_a_promise(
    valkey: Valkey, name: str, value: str, found: dict[str, str]
) -> None:
    """It is named, and nothing else is."""
    with redis.Redis.from_url(valkey.url, decode_responses=True) as client:
        before = client.config_get(name)[name]
        client.config_set(name, value)
        try:
            assert await states(services.redis(valkey.url, SystemClock())) == found
        finally:
            client.config_set(name, before)


async def test_a_replica_is_no_place_to_grant(valkey: Valkey) -> None:
    """The role is named; scripts can be loaded on a replica too."""
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", NOBODY)
        try:
            assert await states(services.redis(valkey.url, SystemClock())) == {"redis-role": "bad"}
        finally:
            client.execute_command("REPLICAOF", "NO", "ONE")


async def test_a_user_who_may_not_do_everything(valkey: Valkey) -> None:
    """Without SCRIPT nothing can be granted; without CONFIG the doctor cannot see it all."""
    with redis.Redis.from_url(valkey.url) as client:
        client.execute_command(
            *("ACL", "SETUSER", "little", "on", ">pass", "~*", "&*", "+@all", "-script", "-config")
        )
    url = valkey.url.replace(f":{embedded.PASSWORD}@", "little:pass@")
    found = {"redis-scripts": "bad", "redis-settings": "warn"}
    assert await states(services.redis(url, SystemClock())) == found


async def test_looking_at_the_scripts_loads_none(valkey: Valkey) -> None:
    """Where the grab is not loaded, no gateway has connected or none may load it: worth a look."""
    with redis.Redis.from_url(valkey.url) as client:
        client.script_flush()
        try:
            found = await states(services.redis(valkey.url, SystemClock()))
            assert found == {"redis-scripts": "warn"}
            assert not any(client.script_exists(*(script.sha for script in scripts.ALL)))
        finally:
            client.script_load(scripts.GRAB.text)


async def test_redis_too_old_or_not_there(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version and reach, each by itself."""
    monkeypatch.setattr(services, "REDIS_MIN", (99, 0))
    assert await states(services.redis(valkey.url, SystemClock())) == {"redis-version": "bad"}
    nowhere = f"redis://127.0.0.1:{NOBODY}/0"
    assert await states(services.redis(nowhere, SystemClock())) == {"redis": "bad"}
    wrong = valkey.url.replace(embedded.PASSWORD, "guessed")
    assert await states(services.redis(wrong, SystemClock())) == {"redis": "bad"}


@pytest.mark.parametrize("off_ms, state", [(2_000, "warn"), (9_000, "bad"), (-9_000, "bad")])
async def test_clocks_that_differ(
    valkey: Valkey, postgres: Postgres, off_ms: int, state: str
) -> None:
    """Past a second it is worth a look, past five a gateway refuses to grant."""
    clock = StillClock(SystemClock().now_ms() + off_ms)
    assert await states(services.redis(valkey.url, clock)) == {"clock": state}
    clock = StillClock(SystemClock().now_ms() + off_ms)
    assert await states(services.postgres(postgres.url, clock)) == {"clock": state}


async def test_the_limiter_is_another_server_that_keeps_nothing(valkey: Valkey) -> None:
    """As `up` starts it nothing has to change; the stock's own server will not do."""
    with embedded.limiter() as apart:
        assert await states(services.limiter(apart.url, valkey.url)) == {}
    assert await states(services.limiter(valkey.url, valkey.url)) == {
        "limiter-apart": "bad", "limiter-disk": "warn", "limiter-eviction": "warn",
    }  # fmt: skip
    nowhere = f"redis://127.0.0.1:{NOBODY}/0"
    assert await states(services.limiter(nowhere, valkey.url)) == {"limiter": "warn"}
    assert of(await doctor._no_limiter()) == {"limiter": "warn"}


async def test_a_campaign_that_waits_for_a_replica_needs_one(valkey: Valkey) -> None:
    """Without one it grants nothing, and the doctor names it."""
    now_ms = SystemClock().now_ms()
    async with Store(valkey.url) as store:
        await store.publish(
            "kept-twice",
            run=await store.run_id(),
            version=1,
            operation="op",
            definition={"name": "N", "durability": "replica"},
            per_user=1,
            per_device=0,
            rounds=[Round(1, now_ms, now_ms + 60_000, 1)],
        )
        await store.register("kept-twice")
        try:
            found = await services.redis(valkey.url, SystemClock())
            assert of(found) == {"redis-replica": "bad"}
            assert any("kept-twice ask for one" in f.detail for f in found)
        finally:
            await store.forget("kept-twice")


# -- PostgreSQL -----------------------------------------------------------------------------------


async def run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


async def test_postgres_as_up_starts_it_is_well(postgres: Postgres) -> None:
    """Nothing to change."""
    assert await states(services.postgres(postgres.url, SystemClock())) == {}


@pytest.mark.parametrize(
    "bad, good, found",
    [
        (
            "ALTER ROLE flashgrab SET synchronous_commit = off",
            "ALTER ROLE flashgrab RESET synchronous_commit",
            {"postgres-fsync": "bad"},
        ),
        (
            "UPDATE alembic_version SET version_num = '0001'",
            "UPDATE alembic_version SET version_num = (SELECT max(v) FROM kept)",
            {"schema": "warn"},
        ),
        (
            "UPDATE alembic_version SET version_num = '9999'",
            "UPDATE alembic_version SET version_num = (SELECT max(v) FROM kept)",
            {"schema-newer": "bad"},
        ),
    ],
)
async def test_each_thing_of_postgres_that_is_wrong(
    postgres: Postgres, bad: str, good: str, found: dict[str, str]
) -> None:
    """It is named, and nothing else is."""
    keep = "CREATE TABLE IF NOT EXISTS kept AS SELECT version_num AS v FROM alembic_version"
    await run(postgres.url, keep, bad)
    try:
        assert await states(services.postgres(postgres.url, SystemClock())) == found
    finally:
        await run(postgres.url, good, "DROP TABLE kept")


async def test_a_server_without_fsync(postgres: Postgres) -> None:
    """The same server, started as the tests start theirs."""
    for durable, found in ((False, {"postgres-fsync": "bad"}), (True, {})):
        await asyncio.to_thread(postgres.stop)
        postgres._durable = durable
        postgres.prepare()
        postgres.start()
        await asyncio.to_thread(postgres.wait_ready)
        assert await states(services.postgres(postgres.url, SystemClock())) == found


async def test_postgres_too_old_not_there_or_empty(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reach, password, a database without a ledger, version."""
    nowhere = f"postgresql://a:b@127.0.0.1:{NOBODY}/c"
    wrong = postgres.url.replace(embedded.PASSWORD, "guessed")
    for url in (nowhere, wrong):
        assert await states(services.postgres(url, SystemClock())) == {"postgres": "bad"}
    empty = postgres.url.rpartition("/")[0] + "/postgres"
    assert await states(services.postgres(empty, SystemClock())) == {"schema": "warn"}
    monkeypatch.setattr(services, "POSTGRES_MIN", 99)
    monkeypatch.setattr(services, "CONNECTIONS_MIN", 1000)
    found = await states(services.postgres(postgres.url, SystemClock()))
    assert found == {"postgres-version": "bad", "postgres-connections": "warn"}


# -- Kafka ----------------------------------------------------------------------------------------


async def test_kafka_without_a_topic_with_one_copy_and_not_there(broker: Broker) -> None:
    """A missing topic and a single copy are worth a look, no broker is worse."""
    assert await states(services.kafka(broker.bootstrap)) == {"kafka-topic": "warn"}
    await ensure_topics(broker.bootstrap, {keys.GRABS_TOPIC: 2})
    found = await services.kafka(broker.bootstrap)
    assert of(found) == {"kafka-replicas": "warn"}
    assert any("2 partitions" in finding.detail for finding in found)
    found = await services.kafka(broker.bootstrap, workers=3)
    assert of(found) == {"kafka-partitions": "warn", "kafka-replicas": "warn"}
    assert await states(services.kafka(f"127.0.0.1:{NOBODY}")) == {"kafka": "bad"}


# -- machine, folder, settings --------------------------------------------------------------------


def test_settings_that_a_part_would_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wrong values are bad, unknown names worth a look; missing ones are no fault here."""
    assert of(machine.settings()) == {}
    monkeypatch.setenv("FLASHGRAB_BATCH_MAX", "5000")
    monkeypatch.setenv("FLASHGRAB_BATCHMAX", "500")
    found = {f.detail.partition(":")[0]: f.state for f in machine.settings()}
    assert found == {"FLASHGRAB_BATCH_MAX": "bad", "FLASHGRAB_BATCHMAX": "warn"}


def test_a_port_in_use() -> None:
    """By name and number."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (found,) = machine.ports({"gateway": port})
    me = f"{psutil.Process().name()} (process {os.getpid()})"
    assert (found.state, found.detail) == ("bad", f"{port} for the gateway is in use by {me}")
    assert of(machine.ports({"gateway": port})) == {}


def made(folder: Path, mark: str = str(FolderVersion.ours())) -> Path:
    folder.mkdir()
    (folder / "version").write_text(mark + "\n")
    (folder / "secrets.env").touch(mode=0o600)
    return folder


def test_a_folder_in_order(tmp_path: Path) -> None:
    """Nothing to change."""
    assert of(machine.folder(made(tmp_path / "data"))) == {}


@pytest.mark.parametrize(
    "mark, found",
    [
        ("flashgrab data 1", {"folder": "warn"}),
        ("flashgrab data 99", {"folder-foreign": "bad"}),
        ("something else", {"folder-foreign": "bad"}),
    ],
)
def test_a_folder_of_another_version(tmp_path: Path, mark: str, found: dict[str, str]) -> None:
    """An older one is to be migrated, any other is not for this release."""
    assert of(machine.folder(made(tmp_path / "data", mark))) == found


def test_a_folder_that_is_not_ours_open_to_others_or_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each by itself."""
    assert of(machine.folder(tmp_path)) == {"folder-foreign": "bad"}
    folder = made(tmp_path / "data")
    (folder / "secrets.env").chmod(0o640)
    assert of(machine.folder(folder)) == {"secrets": "bad"}
    (folder / "secrets.env").chmod(0o600)
    monkeypatch.setattr(machine, "DISK_FREE_MIN", 1 << 60)
    assert of(machine.folder(folder)) == {"disk": "warn"}


@pytest.mark.parametrize(
    "gateway, state",
    [
        ({}, "ok"),
        ({"FLASHGRAB_IDENTITY_KEY": "k" * 40}, "warn"),
        ({"FLASHGRAB_IDENTITY_JWKS": "keys.json"}, "warn"),
        ({"FLASHGRAB_IDENTITY_KEY": "k" * 40, "FLASHGRAB_IDENTITY_AUDIENCE": "shop"}, "ok"),
        ({"FLASHGRAB_IDENTITY_KEY": "k" * 40, "FLASHGRAB_DEMO": "1"}, "ok"),
    ],
)
def test_tokens_for_another_service(gateway: dict[str, str], state: str) -> None:
    """Where identities are taken, their audience should be looked at."""
    assert machine.audience(gateway).state == state


def test_what_the_system_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listen backlog, CPU governor, memory, and the modules of the fast server, each by itself."""
    bound = tmp_path / "somaxconn"
    monkeypatch.setattr(machine, "SOMAXCONN", bound)
    assert machine.backlog().state == "ok"  # another system
    for text, state in (("128", "warn"), ("4096", "ok")):
        bound.write_text(text)
        assert machine.backlog().state == state
    monkeypatch.setattr(machine, "GOVERNORS", tmp_path)
    assert machine.governor().state == "ok"
    folder = tmp_path / "cpu0" / "cpufreq"
    folder.mkdir(parents=True)
    for text, state in (("powersave", "warn"), ("performance", "ok")):
        (folder / "scaling_governor").write_text(text + "\n")
        assert machine.governor().state == state
    assert machine.server().state == "ok"
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == "uvloop" else name)
    assert (machine.server().state, machine.server().detail) == ("bad", "uvloop not installed")
    assert machine.memory().state == "ok"
    monkeypatch.setattr(machine, "MEMORY_FREE_MIN", 1 << 60)
    assert machine.memory().state == "warn"


# -- the command ----------------------------------------------------------------------------------


def command(*arguments: str, before: str = "", cwd: Path | None = None) -> Any:
    shell = f'{before} exec "$@"'
    return subprocess.run(
        ["/bin/sh", "-c", shell, "sh", *COMMAND, "doctor", *arguments],
        env={k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=cwd,
    )


def test_too_few_open_files_before_anything_runs(tmp_path: Path) -> None:
    """With nothing to speak to, machine and ports are looked at; ✗ is exit 1, with its remedy."""
    done = command(before="ulimit -n 1000;", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    assert re.search(r"✗ open files +1,000 .*\n +→ raise the limit", done.stdout)
    assert "! stack" in done.stdout
    assert "1 to be changed" in done.stdout or "ports" in done.stdout


async def test_parts_that_do_not_answer_or_are_not_ready() -> None:
    """Both are bad, and the reason is shown."""
    (found,) = await doctor._part("centre", f"http://127.0.0.1:{NOBODY}")
    assert (found.check, found.state) == ("centre", "bad")
    async with refusing() as url:
        (found,) = await doctor._part("gateway", url)
    assert (found.state, "redis is missing" in found.detail) == ("bad", True)


class refusing:  # noqa: N801 -- reads as a function
    """A server whose /readyz is 503."""

    async def __aenter__(self) -> str:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(
                b"HTTP/1.1 503 No\r\ncontent-length: 16\r\nconnection: close\r\n\r\n"
                b"redis is missing"
            )
            writer.close()
            await writer.wait_closed()

        self.server = await asyncio.start_server(answer, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    async def __aexit__(self, *_: object) -> None:
        self.server.close()
        await self.server.wait_closed()


@pytest.mark.xdist_group("stack")
def test_a_running_stack_is_well(running_stack: Stack) -> None:
    """Every service and part is looked at, nothing is bad, and no secret is shown."""
    done = running_stack.command("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    looked_at = {finding["check"] for finding in report["findings"]}
    never = {"running", "ports", "folder-foreign", "schema-newer", "redis-settings"}
    bad_only = {"redis", "postgres"}
    assert looked_at == set(HINTS) - never - bad_only
    secrets = [value for name, value in running_stack.secrets().items() if "URL" not in name]
    assert [value for value in secrets if value in done.stdout] == []


def test_help_has_an_example() -> None:
    """As of every command."""
    assert "flashgrab doctor --json" in command("--help").stdout
