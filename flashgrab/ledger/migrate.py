"""Brings the ledger's schema to what this code knows; other parts wait for that.

Revisions are plain SQL in flashgrab/migrations/versions, named by their number (0001_spine.py).
They run in one transaction under an advisory lock, so two centres may start at once. Where the
schema is already ours, neither alembic nor SQLAlchemy is imported.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg

from flashgrab.alarms import Alarm, Alarms
from flashgrab.errors import FlashgrabError, LedgerUnavailable
from flashgrab.ledger.pool import CONNECT_S, GONE, Pool
from flashgrab.ledger.revision import MIGRATIONS, head

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

LOCK = 0x666C6173_68677262
"""Key of the advisory lock: "flashgrb" as a number."""
WAIT_PAUSE_S = 0.2
WAIT_PATIENCE_S = 10.0
"""A centre that starts beside us migrates in less."""
WAITING = "start"


class SchemaNewer(FlashgrabError):
    """The ledger was migrated by a newer release; this one must not write to it."""


async def migrate(url: str) -> None:
    """Bring the ledger at `url` to `head()`. Does nothing where it is there already.

    Raises SchemaNewer, and LedgerUnavailable while PostgreSQL is away.
    """
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S)
        try:
            current = await read_revision(connection)
        finally:
            await connection.close(timeout=CONNECT_S)
        if not _is_ours(current):
            async with migrating(url) as migration:
                await migration.to("head")
    except GONE as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error


async def schema_is_ours(pool: Pool) -> bool:
    """Whether the ledger has the schema of this code; False while it is older or empty.

    Raises SchemaNewer, and LedgerUnavailable while PostgreSQL is away.
    """
    async with pool.connection() as connection:
        return _is_ours(await read_revision(connection))


async def wait_for_schema(
    pool: Pool, alarms: Alarms, pause_s: float = WAIT_PAUSE_S, patience_s: float = WAIT_PATIENCE_S
) -> None:
    """Until the centre has migrated the ledger; waits as well while PostgreSQL is away.

    Has no deadline of its own: a part without its ledger has nothing else to do, and raises the
    alarm. Raises SchemaNewer.
    """
    waited_s = 0.0
    try:
        while True:
            try:
                if await schema_is_ours(pool):
                    return
                alarms.end(Alarm.POSTGRES_GONE, by=WAITING)
                waited_s += pause_s
                if waited_s >= patience_s:
                    reason = f"it waits for revision {head()}"
                    alarms.begin(Alarm.MIGRATION_FAILED, reason, by=WAITING)
            except LedgerUnavailable as error:
                alarms.failed(error, WAITING)
            await asyncio.sleep(pause_s)
    finally:
        alarms.leave(WAITING)


async def read_revision(connection: Any) -> str:
    """The revision that the ledger says it has; "" for an empty one."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return ""
    return str(await connection.fetchval("SELECT version_num FROM alembic_version") or "")


def _is_ours(current: str) -> bool:
    if current > head():
        raise SchemaNewer(
            f"the ledger has schema {current}, this release knows {head()}:"
            " start the release that migrated it, or a newer one"
        )
    return current == head()


class Migration:
    """An open migration: one transaction, under the lock that keeps all others waiting."""

    def __init__(self, connection: "AsyncConnection", raw: Any) -> None:
        self._connection = connection
        self.raw = raw
        """asyncpg's connection, in the same transaction."""

    async def to(self, revision: str) -> None:
        """Run what is missing up to `revision`."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
        config.set_main_option("path_separator", "os")

        def upgrade(connection: "Connection") -> None:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)

        await self._connection.run_sync(upgrade)


@asynccontextmanager
async def migrating(url: str) -> AsyncIterator[Migration]:
    """One transaction for the block, committed at its end; nothing of it stays otherwise."""
    from sqlalchemy import text
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import NullPool

    # asyncpg reads the address itself, so that it means the same here as in the pool.
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(url, timeout=CONNECT_S),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            raw: Any = (await connection.get_raw_connection()).driver_connection
            for name in ("json", "jsonb"):  # SQLAlchemy decodes them, the pool does not
                await raw.reset_type_codec(name, schema="pg_catalog")
            yield Migration(connection, raw)
    finally:
        await engine.dispose()
