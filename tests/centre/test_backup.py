"""Backup and restore of the ledger: all of it or nothing, and never a damaged file."""

import asyncio
import os
import signal
import sys
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from flashgrab.errors import LedgerUnavailable
from flashgrab.ledger import backup as ledger_backup
from flashgrab.ledger.backup import LedgerEmpty, LedgerNotEmpty, backup, restore
from flashgrab.ledger.backup_file import FORMAT, MANIFEST, BackupUnusable, Manifest, reading
from flashgrab.ledger.migrate import migrate, migrating
from flashgrab.ledger.revision import head
from flashgrab.ledger.tables import TABLES
from tests.centre.serving import Servers, StillClock

pytestmark = pytest.mark.anyio


def nobody(_table: str, _rows: int) -> None:
    """Told how far it is."""


@pytest.fixture(scope="module")
async def template(bare_servers: Servers, anyio_backend: str) -> AsyncIterator[str]:
    """A filled ledger, for each test to have a copy of; the address of its server."""
    server = bare_servers.postgres_url.rpartition("/")[0]
    await _run(bare_servers.postgres_url, "CREATE DATABASE stocked")
    await migrate(f"{server}/stocked")
    await _fill(f"{server}/stocked")
    yield server
    await _run(bare_servers.postgres_url, "DROP DATABASE stocked WITH (FORCE)")


@pytest.fixture
async def full(template: str) -> AsyncIterator[str]:
    """A ledger with rows in every table."""
    await _run(f"{template}/postgres", "CREATE DATABASE copied TEMPLATE stocked")
    yield f"{template}/copied"
    await _run(f"{template}/postgres", "DROP DATABASE copied WITH (FORCE)")


@pytest.fixture
async def other(template: str) -> AsyncIterator[str]:
    """A database with nothing in it at all."""
    await _run(f"{template}/postgres", "CREATE DATABASE other")
    yield f"{template}/other"
    await _run(f"{template}/postgres", "DROP DATABASE other WITH (FORCE)")


async def _fill(url: str, coupons: int = 300) -> None:
    """A row or more in every table, with every character that COPY has to escape."""
    odd = "tab\tline\nback\\slash é \\N ''"
    await _run(
        url,
        "INSERT INTO campaigns (campaign_id, definition, status, version, per_user, per_device,"
        " operation, created_ms) VALUES ('sale', '{\"name\": \"ä\\\\n\"}', 'PUBLISHED', 1, 1, 0,"
        " 'op', 5), ('later', '{}', 'DRAFT', 1, 1, 0, 'op2', 6)",
        "INSERT INTO rounds VALUES ('sale', 1, 1, 2, 1000, 300, 0)",
        "INSERT INTO operations VALUES ('op', 'sale', '{}', '{\"b\": 1, \"a\":  2}', 1, 7)",
        "INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round, request_id,"
        " epoch, granted_at) SELECT 'sale', n, n, 'u' || n, '', 1, 'r' || n, 1, n"
        f" FROM generate_series(1, {coupons}) AS n",
        f"INSERT INTO dead (digest, campaign_id, seq, reason, detail, key, value, at_ms)"
        f" VALUES ('\\x0001ff', NULL, NULL, 'BAD', $odd${odd}$odd$, '\\x0a5c', '\\x', 3)",
        "INSERT INTO offsets VALUES ('t', 0, 9, '\\xff')",
        "INSERT INTO watermarks VALUES ('sale', 300, 8)",
        "INSERT INTO voids VALUES ('sale', 301, 400, 2)",
        "INSERT INTO returns VALUES ('sale', 7, 'op', 9, 1, NULL, NULL)",
        "INSERT INTO staff VALUES"
        " ('ab', 'token', 'ann', 'viewer', '\\x01', 'op4', NULL, 'root', 3, 9, 4)",
        "INSERT INTO staff_log VALUES ('cd', 5, 'ann', 'viewer', 'ab', 'POST /x', 'sale', 'op5',"
        " NULL, '{\"a\": 1}', 200, 'OK', 6)",
        "INSERT INTO segments VALUES ('sale', 'vip', 's1', 'k1', 2, 1, 9)",
        "INSERT INTO segment_chunks VALUES ('sale', 's1', 0, '\\x00ff0a5c')",
        f"INSERT INTO blocks VALUES ('user', 'u1', $odd${odd}$odd$, 'me', NULL, 9)",
        "INSERT INTO blocklist VALUES (true, 'b1')",
        "INSERT INTO rebuilds VALUES ('op3', 'sale', 'DONE', false, 2, 300, 400, '{}', 8, 9)",
        "INSERT INTO console_seconds VALUES (1000, '\\x00ff', NULL), (2000, '\\x', '\\x0a5c')",
        f"INSERT INTO console_notes VALUES (1000, 'sale', 'paused', $odd${odd}$odd$)",
    )


async def _run(url: str, *statements: str) -> None:
    connection = await asyncpg.connect(url)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()


async def _everything(url: str) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    connection = await asyncpg.connect(url)
    rows = {
        table: [r[0] for r in await connection.fetch(f"SELECT t::text FROM {table} t ORDER BY 1")]
        for table in TABLES
    }
    await connection.close()
    return rows


async def _tables(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
    )
    await connection.close()
    return {row["table_name"] for row in rows}


async def _restore(url: str, file: Path, **more: Any) -> frozenset[str]:
    with reading(file, head()) as opened:
        opened.check()
        return (await restore(url, opened, StillClock(), nobody, **more)).campaigns


async def test_the_list_of_tables_is_what_the_migrations_make(full: str) -> None:
    """A migration that adds a table has to add it to TABLES, or a backup would lack it."""
    assert await _tables(full) == {*TABLES, "alembic_version"}


async def test_a_round_trip_changes_nothing(full: str, other: str, tmp_path: Path) -> None:
    """Every row of every table comes back as it was, and the file is for its owner only."""
    manifest = await backup(full, tmp_path / "b", StillClock(), nobody)
    before = await _everything(full)
    assert {t.name: t.rows for t in manifest.tables} == {k: len(v) for k, v in before.items()}
    assert min(map(len, before.values())) > 0
    assert (tmp_path / "b").stat().st_mode & 0o777 == 0o600
    assert await _restore(other, tmp_path / "b") == {"sale", "later"}
    after = await _everything(other)
    for table in ("operations", "rebuilds"):  # the one that begins with the restore
        added = sorted(set(after[table]) - set(before[table]))
        assert (len(added), "restore-" in added[0]) == (1, True)
        assert set(before[table]) < set(after[table])
    campaigns = ["PUBLISHED" not in row for row in before["campaigns"]]
    assert campaigns == ["PUBLISHED" not in row for row in after["campaigns"]]
    drafts = [row for row in before["campaigns"] if "PUBLISHED" not in row]
    assert [row for row in after["campaigns"] if "PUBLISHED" not in row] == drafts
    for table in set(TABLES) - {"campaigns", "operations", "rebuilds"}:
        assert after[table] == before[table]


async def test_a_restore_lets_nobody_in(full: str, other: str, tmp_path: Path) -> None:
    """A token of the backup may have been revoked since: all of them are over."""
    await _run(full, "UPDATE staff SET ended_ms = NULL")
    await backup(full, tmp_path / "b", StillClock(), nobody)
    await _restore(other, tmp_path / "b")
    connection = await asyncpg.connect(other)
    assert await connection.fetchval("SELECT min(ended_ms) FROM staff") is not None
    await connection.close()


async def test_a_published_campaign_waits_for_its_rebuild(
    full: str, other: str, tmp_path: Path
) -> None:
    """It counts as applied, in an epoch as high as any known, so nothing creates it anew, and its
    rebuild has begun with the same commit; one that was under way before is forgotten."""
    await _run(full, "UPDATE rebuilds SET step = 'SEED'")
    await backup(full, tmp_path / "b", StillClock(), nobody)
    await _run(full, "UPDATE campaigns SET epoch = 4")
    await _restore(full, tmp_path / "b", replace=True, epochs={"sale": 3, "gone": 9})
    await _restore(other, tmp_path / "b", epochs={"sale": 7})
    query = "SELECT epoch, applied_version FROM campaigns WHERE campaign_id = 'sale'"
    for url, epoch in ((full, 4), (other, 7)):
        connection = await asyncpg.connect(url)
        assert tuple(await connection.fetchrow(query) or ()) == (epoch, 1)
        (rebuild,) = await connection.fetch("SELECT * FROM rebuilds")
        assert (rebuild["campaign_id"], rebuild["step"]) == ("sale", "DRAIN")
        assert rebuild["operation"].startswith("restore-")
        await connection.close()


async def test_the_snapshot_is_of_one_moment(full: str, tmp_path: Path) -> None:
    """What commits while it is written is in no table of the file."""
    before = await _everything(full)
    wrote = asyncio.Event()

    def meanwhile(table: str, rows: int) -> None:
        wrote.set()

    writing = asyncio.create_task(backup(full, tmp_path / "b", StillClock(), meanwhile))
    await wrote.wait()
    await _run(full, "DELETE FROM voids", "DELETE FROM offsets", "UPDATE rounds SET quota = 1")
    manifest = await writing
    counts = {table.name: table.rows for table in manifest.tables}
    assert counts == {name: len(rows) for name, rows in before.items()}


async def test_a_full_ledger_is_refused_without_replace(full: str, tmp_path: Path) -> None:
    """Without --replace nothing is changed; with it the ledger is what the file says."""
    await backup(full, tmp_path / "b", StillClock(), nobody)
    await _run(full, "UPDATE coupons SET state = 'USED'")
    changed = await _everything(full)
    with pytest.raises(LedgerNotEmpty, match="--replace"):
        await _restore(full, tmp_path / "b")
    assert await _everything(full) == changed
    await _restore(full, tmp_path / "b", replace=True)
    assert (await _everything(full))["coupons"] != changed["coupons"]


async def test_a_damaged_file_changes_nothing(full: str, other: str, tmp_path: Path) -> None:
    """Cut off anywhere, or with any byte turned round, it is refused or is still the same."""
    whole = tmp_path / "b"
    manifest = await backup(full, whole, StillClock(), nobody)
    data = whole.read_bytes()
    damaged = tmp_path / "damaged"
    for size in range(0, len(data), max(1, len(data) // 60)):
        damaged.write_bytes(data[:size])
        with pytest.raises(BackupUnusable), reading(damaged, head()) as opened:
            opened.check()
    refused = 0
    for at in range(0, len(data), max(1, len(data) // 400)):
        damaged.write_bytes(data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :])
        try:
            with reading(damaged, head()) as opened:
                opened.check()
                assert opened.manifest == manifest  # a byte that says nothing, such as a time
        except BackupUnusable:
            refused += 1
    assert refused > 200
    assert await _tables(other) == set()


async def test_what_is_no_backup_or_newer_is_refused(full: str, tmp_path: Path) -> None:
    """Each with a message that says what it is."""
    file = tmp_path / "b"
    manifest = await backup(full, file, StillClock(), nobody)
    newer_format = {"format": FORMAT + 1, "product": "flashgrab 99", "surprise": 1}
    newer_ledger = msgspec.structs.replace(manifest, revision="9999", product="flashgrab 99")
    wrong_rows = _with_rows(manifest, manifest.tables[0].rows + 1)
    for said, why in (
        (newer_format, "newer release.*flashgrab 99"),
        (newer_ledger, "newer release.*flashgrab 99.*9999"),
        (wrong_rows, "damaged: table campaigns"),
        ({"format": "one"}, "manifest"),
        ([], "manifest"),
    ):
        other = _with_manifest(file, tmp_path / "other", said)
        with pytest.raises(BackupUnusable, match=why), reading(other, head()) as opened:
            opened.check()
    with pytest.raises(BackupUnusable, match="no such file"), reading(tmp_path / "no", head()):
        pass
    plain = tmp_path / "plain.zip"
    with zipfile.ZipFile(plain, "w") as made:
        made.writestr("letter.txt", "mine")
    with pytest.raises(BackupUnusable, match="no manifest"), reading(plain, head()):
        pass


def _with_rows(manifest: Manifest, rows: int) -> Manifest:
    first = msgspec.structs.replace(manifest.tables[0], rows=rows)
    return msgspec.structs.replace(manifest, tables=(first, *manifest.tables[1:]))


def _with_manifest(file: Path, other: Path, said: object) -> Path:
    with zipfile.ZipFile(file) as old, zipfile.ZipFile(other, "w") as new:
        for name in old.namelist():
            data = old.read(name) if name != MANIFEST else msgspec.json.encode(said)
            new.writestr(name, data)
    return other


async def test_rows_that_do_not_fit_leave_the_ledger_as_it_was(full: str, tmp_path: Path) -> None:
    """A file whose last table cannot be written takes the first ones back with it."""
    await _run(full, "DELETE FROM rounds", "DELETE FROM watermarks")
    await backup(full, tmp_path / "b", StillClock(), nobody)
    with reading(tmp_path / "b", head()) as opened:
        tables = opened.manifest.tables
        wrong = msgspec.structs.replace(tables[-1], columns=("campaign_id", "nonsense", "at_ms"))
        opened.manifest = msgspec.structs.replace(opened.manifest, tables=(*tables[:-1], wrong))
        before = await _everything(full)
        with pytest.raises(BackupUnusable, match="do not fit"):
            await restore(full, opened, StillClock(), nobody, replace=True)
    assert await _everything(full) == before


async def test_a_ledger_of_an_older_schema_is_saved_and_comes_back_migrated(
    full: str, other: str, tmp_path: Path
) -> None:
    """The file of revision 0001 is filled into its own schema, and migrated to this one."""
    async with migrating(other) as migration:
        await migration.to("0001")
    await _run(
        other,
        "INSERT INTO campaigns (campaign_id, definition, status, version, per_user, per_device,"
        " operation, created_ms) VALUES ('old', '{}', 'PUBLISHED', 1, 1, 0, 'op', 5)",
    )
    manifest = await backup(other, tmp_path / "old", StillClock(), nobody)
    assert manifest.revision == "0001"
    assert await _restore(full, tmp_path / "old", replace=True) == {"old"}
    assert await _tables(full) == {*TABLES, "alembic_version"}
    connection = await asyncpg.connect(full)
    assert await connection.fetchval("SELECT version_num FROM alembic_version") == head()
    await connection.close()


async def test_there_is_no_file_where_there_was_no_backup(
    full: str, other: str, tmp_path: Path
) -> None:
    """An empty ledger, none at all, or a name that is taken: nothing is written."""
    with pytest.raises(LedgerEmpty):
        await backup(other, tmp_path / "b", StillClock(), nobody)
    with pytest.raises(LedgerUnavailable):
        await backup("postgresql://a@127.0.0.1:1/none", tmp_path / "b", StillClock(), nobody)
    assert _names(tmp_path) == []
    (tmp_path / "b").write_text("mine")
    with pytest.raises(FileExistsError):
        await backup(full, tmp_path / "b", StillClock(), nobody)
    assert _names(tmp_path) == ["b"]
    assert (tmp_path / "b").read_text() == "mine"


def _names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


HALFWAY = """
import asyncio, sys, time
from pathlib import Path
from flashgrab.clock import SystemClock
from flashgrab.ledger import backup
from flashgrab.ledger.backup_file import reading
from flashgrab.ledger.revision import head

def stop(table, rows):
    if table == "coupons":
        print("halfway", flush=True)
        time.sleep(60)

what, url, file = sys.argv[1:]
if what == "backup":
    asyncio.run(backup.backup(url, Path(file), SystemClock(), stop))
with reading(Path(file), head()) as opened:
    asyncio.run(backup.restore(url, opened, SystemClock(), stop, replace=True))
"""


@pytest.mark.parametrize("what", ["backup", "restore"])
async def test_kill_9_in_the_middle_leaves_nothing_half(
    full: str, tmp_path: Path, what: str
) -> None:
    """Of a killed backup there is no file of its name, and the next one works; of a killed restore
    nothing is in the ledger."""
    file = tmp_path / "b"
    if what == "restore":
        await backup(full, file, StillClock(), nobody)
        await _run(full, "UPDATE coupons SET state = 'USED'", "DELETE FROM dead")
    before = await _everything(full)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HALFWAY, what, full, str(file)), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert await asyncio.wait_for(process.stdout.readline(), 30) == b"halfway\n"
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    async with asyncio.timeout(20):
        assert await _everything(full) == before
    assert file.exists() == (what == "restore")
    if what == "backup":
        await backup(full, file, StillClock(), nobody)
        with reading(file, head()) as opened:
            opened.check()
        assert _names(tmp_path) == ["b"]


async def test_a_reader_that_does_not_let_go_ends_the_restore(
    full: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past its time the restore gives up, with nothing changed."""
    await backup(full, tmp_path / "b", StillClock(), nobody)
    monkeypatch.setattr(ledger_backup, "ALONE_MS", 200)
    connection = await asyncpg.connect(full)
    async with connection.transaction():
        before = await connection.fetchval("SELECT count(*) FROM coupons")
        with pytest.raises(LedgerUnavailable, match="busy"):
            await _restore(full, tmp_path / "b", replace=True)
    assert await connection.fetchval("SELECT count(*) FROM coupons") == before
    await connection.close()
