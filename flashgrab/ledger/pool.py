"""Connections to the ledger, and how its failures look to the rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Literal

import asyncpg

from flashgrab.errors import LedgerUnavailable

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy


Isolation = Literal["read_committed", "repeatable_read", "serializable"]

CONNECT_S = 5.0
COMMAND_S = 30.0
CLOSE_S = 1.0

GONE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that was lost while it was handed out
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
)
"""What asyncpg raises while PostgreSQL is away; anything else is a fault of ours."""


class Pool:
    """A small pool. Raises LedgerUnavailable while PostgreSQL is away; heals by itself.

    After `command_s` without an answer a connection is given up. With `idle_ms` PostgreSQL gives
    up a session that stands still for so long inside a transaction: what it has locked, others
    wait for (a worker's offsets, while it is frozen or its network is gone).
    """

    def __init__(
        self, url: str, size_max: int = 4, *, command_s: float = COMMAND_S, idle_ms: int = 0
    ) -> None:
        self._url = url
        self._size_max = size_max
        self._command_s = command_s
        self._settings = {
            "jit": "off",  # compiling costs more than what runs here
            "idle_in_transaction_session_timeout": str(idle_ms),
        }
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None

    async def close(self) -> None:
        """Connections that are just given back end in order; what lasts longer is cut off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        with suppress(*GONE):
            async with asyncio.timeout(CLOSE_S):
                await pool.close()
        pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One connection for the block."""
        try:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._url,
                    min_size=0,
                    max_size=self._size_max,
                    timeout=CONNECT_S,
                    command_timeout=self._command_s,
                    server_settings=self._settings,
                )
            async with self._pool.acquire(timeout=CONNECT_S) as connection:
                yield connection
        except GONE as error:
            raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error

    @asynccontextmanager
    async def transaction(
        self, *, isolation: Isolation | None = None, readonly: bool = False
    ) -> AsyncIterator["PoolConnectionProxy[asyncpg.Record]"]:
        """One transaction for the block: committed at its end, rolled back on an exception."""
        async with (
            self.connection() as connection,
            connection.transaction(isolation=isolation, readonly=readonly),
        ):
            yield connection
