"""How the ledger's server is set up, for the doctor."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger.migrate import read_revision
from flashgrab.ledger.pool import CONNECT_S, GONE

_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True, slots=True)
class LedgerServer:
    """`version` is the major one; `settings` are those of a session of our user."""

    version: int
    settings: Mapping[str, str]
    revision: str
    now_ms: int


async def read_server(url: str) -> LedgerServer:
    """Raises LedgerUnavailable, also where the user or the database is refused."""
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_S, command_timeout=CONNECT_S)
        try:
            row = await connection.fetchrow(
                "SELECT current_setting('server_version_num')::int / 10000 AS version,"
                " (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms"
            )
            assert row is not None
            settings = {name: await connection.fetchval(f"SHOW {name}") for name in _DURABLE}
            revision = await read_revision(connection)
            return LedgerServer(row["version"], settings, revision, row["now_ms"])
        finally:
            connection.terminate()
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error
