"""The ledger's schema: made once, waited for, never taken back."""

import asyncio
import sys
from collections.abc import AsyncIterator

import asyncpg
import pytest

from flashgrab.alarms import Alarm, Alarms
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger.migrate import SchemaNewer, migrate, schema_is_ours, wait_for_schema
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.revision import head
from tests.centre.serving import TABLES, Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def empty_url(bare_servers: Servers) -> AsyncIterator[str]:
    """A database of its own on the session's server."""
    server = bare_servers.postgres_url
    connection = await asyncpg.connect(server)
    await connection.execute("CREATE DATABASE fresh")
    yield server.rpartition("/")[0] + "/fresh"
    await connection.execute("DROP DATABASE fresh WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def empty_pool(empty_url: str) -> AsyncIterator[Pool]:
    pool = Pool(empty_url)
    yield pool
    await pool.close()


async def _at_version(url: str, version: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("UPDATE alembic_version SET version_num = $1", version)
    await connection.close()


async def test_makes_all_tables_even_from_two_centres_at_once(
    empty_url: str, empty_pool: Pool
) -> None:
    """Two migrations at once leave every table, once, at the newest revision."""
    await asyncio.gather(migrate(empty_url), migrate(empty_url))
    async with empty_pool.connection() as connection:
        rows = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        assert await connection.fetchval("SELECT version_num FROM alembic_version") == head()
    assert {row["table_name"] for row in rows} >= {"alembic_version", *TABLES.split(", ")}


async def test_the_quick_way_imports_no_alembic(migrated: Servers) -> None:
    """Where the schema is ours already, neither alembic nor SQLAlchemy is imported."""
    program = (
        "import asyncio, sys; from flashgrab.ledger.migrate import migrate;"
        "asyncio.run(migrate(sys.argv[1]));"
        "sys.exit(any(name in sys.modules for name in ('alembic', 'sqlalchemy')))"
    )
    command = [sys.executable, "-c", program, migrated.postgres_url]
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


async def test_an_empty_ledger_is_not_ours_and_is_waited_for(
    empty_url: str, empty_pool: Pool
) -> None:
    """wait_for_schema ends once a centre has migrated, and not before; it calls for an operator
    where that takes long."""
    assert not await schema_is_ours(empty_pool)
    alarms = Alarms()
    waiting = asyncio.create_task(
        wait_for_schema(empty_pool, alarms, pause_s=0.01, patience_s=0.05)
    )
    async with asyncio.timeout(20):
        while not alarms.is_on(Alarm.MIGRATION_FAILED):  # noqa: ASYNC110 (it has no event)
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await migrate(empty_url)
        await waiting
    assert not alarms.is_on(Alarm.MIGRATION_FAILED)


async def test_a_newer_schema_is_refused(empty_url: str, empty_pool: Pool) -> None:
    """A ledger of a newer release is refused by all three, with both versions named."""
    await migrate(empty_url)
    await _at_version(empty_url, "9999")
    for refusing in (
        migrate(empty_url),
        schema_is_ours(empty_pool),
        wait_for_schema(empty_pool, Alarms()),
    ):
        with pytest.raises(SchemaNewer, match=f"schema 9999, this release knows {head()}"):
            await refusing


async def test_no_server_is_ledger_unavailable() -> None:
    """Where nobody listens the failure says that a repeat may help."""
    with pytest.raises(LedgerUnavailable) as caught:
        await migrate("postgresql://nobody@127.0.0.1:1/none")
    assert caught.value.retriable


async def test_a_password_with_odd_characters_migrates(bare_servers: Servers) -> None:
    """The address means the same to the migration as to the pool, escapes and all."""
    connection = await asyncpg.connect(bare_servers.postgres_url)
    await connection.execute("CREATE ROLE odd LOGIN PASSWORD 'p%40 @:/'")
    await connection.execute("CREATE DATABASE odd OWNER odd")
    host = bare_servers.postgres_url.rpartition("@")[2].partition("/")[0]
    try:
        await migrate(f"postgresql://odd:p%2540%20%40%3A%2F@{host}/odd")
    finally:
        await connection.execute("DROP DATABASE odd WITH (FORCE)")
        await connection.execute("DROP ROLE odd")
        await connection.close()
