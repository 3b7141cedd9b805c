"""Backup and restore of the whole ledger, each in one transaction (see backup_file.py)."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import asyncpg

from flashgrab.clock import Clock
from flashgrab.errors import FlashgrabError, LedgerUnavailable
from flashgrab.ledger.backup_file import (
    BackupReader,
    BackupUnusable,
    BackupWriter,
    Manifest,
    Table,
    writing,
)
from flashgrab.ledger.migrate import migrating, read_revision
from flashgrab.ledger.operations import Change, Operations
from flashgrab.ledger.pool import CONNECT_S, GONE, Pool
from flashgrab.ledger.tables import TABLES

ALONE_MS = 30_000
"""So long a restore waits for the tables that others are busy with."""

NO_EPOCHS: Mapping[str, int] = MappingProxyType({})

Progress = Callable[[str, int], None]
"""Told the table and how many of its rows are done, after each piece."""


class LedgerNotEmpty(FlashgrabError):
    """A restore would throw away what is there, and nobody said so."""


class LedgerEmpty(FlashgrabError):
    """There is no ledger to back up yet."""


async def backup(url: str, path: Path, clock: Clock, progress: Progress) -> Manifest:
    """Write the ledger at `url`, all of one moment, to the new file `path`.

    Takes a ledger of an older schema as it is. Raises FileExistsError, LedgerEmpty,
    LedgerUnavailable; then there is no file.
    """
    connection = await _connect(url)
    try:
        tables = await _present(connection)
        if not tables:
            raise LedgerEmpty("the ledger is empty: no centre has prepared it yet")
        with writing(path) as writer:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # before the snapshot, so that no migration comes between it and the rows
                await connection.execute(f"LOCK TABLE {', '.join(tables)} IN ACCESS SHARE MODE")
                for table in tables:
                    await _take(connection, table, writer, progress)
                revision = await read_revision(connection)
            return writer.finish(f"flashgrab {version('flashgrab')}", revision, clock.now_ms())
    except _LOST as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error
    finally:
        connection.terminate()


async def _take(connection: Any, table: str, writer: BackupWriter, progress: Progress) -> None:
    columns = await _columns(connection, table)
    with writer.table(table, columns) as member:

        async def take(data: bytes) -> None:
            member.write(data)
            progress(table, member.rows)

        await connection.copy_from_table(table, columns=columns, output=take, format="text")


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore left: every campaign, and for each that was published the operation id of
    the rebuild that has begun."""

    campaigns: frozenset[str]
    rebuilds: Mapping[str, str]


async def restore(
    url: str,
    file: BackupReader,
    clock: Clock,
    progress: Progress,
    *,
    replace: bool = False,
    without_kafka: bool = False,
    epochs: Mapping[str, int] = NO_EPOCHS,
) -> Restored:
    """Make the ledger at `url` what `file`, which was checked, says; all of it or nothing.

    The file's own schema is made first, then filled, then migrated; with it begins a rebuild of
    each campaign that was published. `epochs`: the epoch that Redis has of each campaign.
    Raises LedgerNotEmpty unless `replace`, BackupUnusable, LedgerUnavailable.
    """
    operations = Operations(Pool(url), clock)  # of which only what runs in our transaction is used
    rebuild = Change("rebuild", without_kafka=without_kafka)
    try:
        async with migrating(url) as migration:
            connection = migration.raw
            present = await _present(connection)
            old = await _epochs(connection) if "campaigns" in present else {}
            if present and not replace and await _has_rows(connection):
                raise LedgerNotEmpty("the ledger is not empty: --replace throws away what is there")
            await _drop(connection, [*present, "alembic_version"])
            await migration.to(file.manifest.revision)
            for table in file.manifest.tables:
                await _fill(connection, file, table, progress)
            await migration.to("head")
            await _close(connection, [old, epochs])
            begun = {
                campaign_id: f"restore-{uuid4().hex}"
                for campaign_id in await _published(connection)
            }
            for campaign_id, operation in begun.items():
                await operations.change_in(connection, operation, campaign_id, rebuild)
            return Restored(frozenset(await _epochs(connection)), begun)
    except GONE as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
        raise LedgerUnavailable(f"others are busy with the ledger ({error})") from error
    except _NO_FIT as error:
        raise BackupUnusable(f"its rows do not fit the ledger ({error})") from error


async def _drop(connection: Any, tables: list[str]) -> None:
    """Readers and writers go on until all tables are ours; what they began then fails whole."""
    await connection.execute(f"SET LOCAL lock_timeout = {ALONE_MS}")
    await connection.execute(f"DROP TABLE IF EXISTS {', '.join(tables)}")
    await connection.execute("SET LOCAL lock_timeout = 0")


async def _fill(connection: Any, file: BackupReader, table: Table, progress: Progress) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        rows = 0
        for data in file.read(table):
            yield data
            rows += data.count(b"\n")
            progress(table.name, rows)

    await connection.copy_to_table(
        table.name,
        source=pieces(),
        columns=table.columns,
        format="text",
        timeout=_NO_END_S,
    )


async def _close(connection: Any, known: list[Mapping[str, int]]) -> None:
    """No campaign grants before it was rebuilt: Redis has nothing of it, or another epoch.

    The next epoch must be one that nobody has seen, so this one counts from the highest known.
    A campaign that was published counts as applied: it is never created anew, with all its stock.
    """
    highest: dict[str, int] = {}
    for epochs in known:
        for campaign_id, epoch in epochs.items():
            highest[campaign_id] = max(epoch, highest.get(campaign_id, 0))
    await connection.execute(
        "UPDATE campaigns c SET epoch = k.epoch"
        " FROM unnest($1::text[], $2::bigint[]) AS k(campaign_id, epoch)"
        " WHERE c.campaign_id = k.campaign_id AND c.epoch < k.epoch",
        list(highest),
        list(highest.values()),
    )
    await connection.execute(
        "UPDATE campaigns SET applied_version = greatest(applied_version, 1)"
        " WHERE status <> 'DRAFT'"
    )
    # who was let in at the time of the backup may have been put out since
    await connection.execute("UPDATE staff SET ended_ms = coalesce(ended_ms, created_ms)")
    # one that was under way knew another ledger
    await connection.execute("DELETE FROM rebuilds WHERE step <> 'DONE'")


async def _has_rows(connection: Any) -> bool:
    held = [f"EXISTS (SELECT FROM {table})" for table in ("campaigns", "coupons", "dead")]
    return bool(await connection.fetchval(f"SELECT {' OR '.join(held)}"))


async def _epochs(connection: Any) -> dict[str, int]:
    rows = await connection.fetch("SELECT campaign_id, epoch FROM campaigns")
    return {row["campaign_id"]: row["epoch"] for row in rows}


async def _published(connection: Any) -> list[str]:
    rows = await connection.fetch(
        "SELECT campaign_id FROM campaigns WHERE status <> 'DRAFT' ORDER BY created_ms, campaign_id"
    )
    return [row["campaign_id"] for row in rows]


async def _present(connection: Any) -> list[str]:
    """Those of our tables that are there, in the order of TABLES."""
    rows = await connection.fetch(
        "SELECT t FROM unnest($1::text[]) WITH ORDINALITY AS given(t, n)"
        " WHERE to_regclass(quote_ident(t)) IS NOT NULL ORDER BY n",
        list(TABLES),
    )
    return [row["t"] for row in rows]


async def _columns(connection: Any, table: str) -> tuple[str, ...]:
    """Those that are stored, not computed from others."""
    rows = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(quote_ident($1))"
        " AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
        table,
    )
    return tuple(row["attname"] for row in rows)


_NO_FIT = (
    asyncpg.DataError,
    asyncpg.SyntaxOrAccessError,
    asyncpg.IntegrityConstraintViolationError,
)
_NO_END_S = 86_400.0
"""Copying a large table takes as long as it takes."""


_LOST = tuple(kind for kind in GONE if kind is not OSError)
"""Of the ledger; an OSError is the file's."""


async def _connect(url: str) -> Any:
    """A connection whose statements may take as long as they need."""
    try:
        return await asyncpg.connect(url, timeout=CONNECT_S)
    except GONE as error:
        raise LedgerUnavailable(f"PostgreSQL: {str(error) or type(error).__name__}") from error
