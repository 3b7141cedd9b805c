"""How the ledger's server is set up, for the doctor."""

from collections.abc import Mapping
from dataclasses import dataclass

import asyncpg

from flashgrab.clock import Clock
from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger.migrate import read_revision
from flashgrab.ledger.pool import GONE

ASK_S = 10.0
"""Longer than a pool waits: a machine that is busy is no server that is gone."""
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@dataclass(frozen=True, slots=True)
class LedgerServer:
    """`version` is the major one; `settings` are those of a session of our user; `ahead_ms`:
    of its clock before ours."""

    version: int
    settings: Mapping[str, str]
    revision: str
    ahead_ms: int
    connections_max: int


async def read_server(url: str, clock: Clock) -> LedgerServer:
    """Raises LedgerUnavailable, also where the user or the database is refused."""
    try:
        connection = await asyncpg.connect(url, timeout=ASK_S, command_timeout=ASK_S)
        try:
            version = await connection.fetchval(
                "SELECT current_setting('server_version_num')::int / 10000"
            )
            asked_ms = clock.now_ms()
            now_ms = await connection.fetchval(
                "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
            )
            settings = {name: await connection.fetchval(f"SHOW {name}") for name in _DURABLE}
            most = int(await connection.fetchval("SHOW max_connections"))
            revision = await read_revision(connection)
            return LedgerServer(version, settings, revision, now_ms - asked_ms, most)
        finally:
            connection.terminate()
    except (*GONE, asyncpg.PostgresError, ValueError) as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error
