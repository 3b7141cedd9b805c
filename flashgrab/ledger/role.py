"""A role that one process of many has: a session's advisory lock on a connection of its own."""

import asyncpg

from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger.pool import COMMAND_S, CONNECT_S, GONE

SILENT_MS = 10_000
"""A holder that asks nothing for so long (frozen, or behind a dead link) loses the role: PostgreSQL
ends its session. A holder asks every second."""
WALKER = 0x666C6173_6877616C
"""The lock's number: "flashwal" in ASCII. Any number does that nobody else uses."""


class Role:
    """Losing the connection loses the role: PostgreSQL frees the lock with the session."""

    def __init__(self, url: str, number: int = WALKER, silent_ms: int = SILENT_MS) -> None:
        self._url = url
        self._silent_ms = silent_ms
        self._number = number
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None

    async def take(self) -> bool:
        """Whether this process has the role now. Raises LedgerUnavailable; then it has not."""
        try:
            if self._connection is None:
                self._connection = await asyncpg.connect(
                    self._url,
                    timeout=CONNECT_S,
                    command_timeout=COMMAND_S,
                    server_settings={"idle_session_timeout": str(self._silent_ms)},
                )
            elif await self._holds():
                return True
            return bool(
                await self._connection.fetchval("SELECT pg_try_advisory_lock($1)", self._number)
            )
        except GONE as error:
            await self.leave()
            raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error

    async def _holds(self) -> bool:
        assert self._connection is not None
        return bool(
            await self._connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted"
                " AND pid = pg_backend_pid() AND (classid::bigint << 32) | objid::bigint = $1)",
                self._number,
            )
        )

    async def leave(self) -> None:
        """Give the role up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
