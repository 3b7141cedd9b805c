"""`flashgrab up --migrate`: a data folder of an older release is saved, migrated and used."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import asyncpg
import pytest

from flashgrab.cli.stack import secretsfile
from flashgrab.cli.stack.folder import DataFolder, FolderVersion
from flashgrab.cli.stack.ports import free_port
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.service import ServiceFailed
from flashgrab.ledger.backup_file import reading
from flashgrab.ledger.migrate import migrating
from flashgrab.ledger.revision import head
from tests.cli.stack_process import Running, up

pytestmark = [pytest.mark.xdist_group("up")]

OLD_MARK = "flashgrab data 1\n"
OLD_ROWS = """
INSERT INTO campaigns (campaign_id, definition, status, version, applied_version, per_user,
    per_device, operation, created_ms) VALUES ('sale', '{}', 'OFFLINE', 2, 2, 1, 0, 'op', 1);
INSERT INTO rounds VALUES ('sale', 1, 1, 2, 9, 5, 0);
INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round, request_id, epoch,
    granted_at) SELECT 'sale', n, n, 'u' || n, '', 1, 'r' || n, 1, n FROM generate_series(1, 5) n;
"""


def made_by_an_older_release(data: Path) -> None:
    """As the first release left it: its mark, its secrets, a ledger of revision 0001 with rows."""
    data.mkdir(parents=True)
    (data / "version").write_text(OLD_MARK)
    secrets = secretsfile.settle(data / "secrets.env", {}, demo=False)
    secretsfile.write(data / "secrets.env", secrets, redis_url="", limiter_url="", postgres_url="")
    server = Postgres(
        data / "postgres",
        port=free_port(),
        password=secrets.postgres_password,
        log=data / "logs" / "postgres.log",
    )
    with server:
        asyncio.run(_first_revision(server.url))


async def _first_revision(url: str) -> None:
    async with migrating(url) as migration:
        await migration.to("0001")
        await migration.raw.execute(OLD_ROWS)


def _ask(running: Running, query: str) -> object:
    url = secretsfile.read_env_file(running.data / "secrets.env")["FLASHGRAB_POSTGRES_URL"]

    async def ask() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    return asyncio.run(ask())


OURS = FolderVersion.ours()


def test_an_older_folder_is_migrated_only_when_told(data: Path) -> None:
    """Refused with one line that says what to do; a migration that fails changes nothing; one that
    does not saves the ledger first, and leaves an ordinary folder."""
    made_by_an_older_release(data)
    with up(data) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        for word in ("older version", "flashgrab data 1", "--migrate", str(data / "backups")):
            assert word in running.complained
    (data / "backups").write_text("in the way")
    with up(data, "--migrate") as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        assert "was not migrated" in running.complained
    assert (data / "version").read_text() == OLD_MARK
    (data / "backups").unlink()
    with up(data, "--migrate") as running:
        running.ready()
        assert f"migrated from flashgrab data 1 to {OURS}" in running.said
        assert _ask(running, "SELECT version_num FROM alembic_version") == head()
        assert _ask(running, "SELECT count(*) FROM coupons") == 5
        assert running.stop() == 0
    (saved,) = (data / "backups").iterdir()
    with reading(saved, head()) as backup:
        backup.check()
        assert backup.manifest.revision == "0001"
        rows = {table.name: table.rows for table in backup.manifest.tables}
        assert (rows["campaigns"], rows["coupons"]) == (1, 5)
    folder = DataFolder(data)
    folder.open()
    assert folder.older is None
    folder.close()


@pytest.mark.parametrize(
    "mark",
    [
        f"flashgrab data {OURS.layout + 1}",
        f"flashgrab data {OURS.layout} ledger 9999 redis {OURS.redis}",
        f"flashgrab data {OURS.layout} ledger {OURS.ledger} redis {OURS.redis + 1}",
        f"flashgrab data {OURS.layout - 1} ledger 9999 redis {OURS.redis}",
    ],
)
def test_a_newer_folder_is_refused_also_with_migrate(data: Path, mark: str) -> None:
    """Newer in any respect: this release must not touch it."""
    data.mkdir()
    (data / "version").write_text(mark + "\n")
    for migrate in (False, True):
        with pytest.raises(ServiceFailed, match="newer version"):
            DataFolder(data).open(migrate=migrate)
    assert [path.name for path in data.iterdir()] == ["version"]


@pytest.mark.parametrize(
    "mark",
    [
        "flashgrab data 1",
        f"flashgrab data {OURS.layout} ledger 0001 redis {OURS.redis}",
        f"flashgrab data {OURS.layout} ledger {OURS.ledger} redis {OURS.redis - 1}",
    ],
)
def test_an_older_one_keeps_its_mark_until_it_is_migrated(data: Path, mark: str) -> None:
    """Killed at any moment before the end, the next --migrate begins again."""
    data.mkdir()
    (data / "version").write_text(mark + "\n")
    opened(data, DataFolder.close)
    assert (data / "version").read_text() == mark + "\n"
    opened(data, DataFolder.mark)
    assert FolderVersion.read(data / "version") == OURS


def opened(data: Path, then: Callable[[DataFolder], None]) -> None:
    folder = DataFolder(data)
    folder.open(migrate=True)
    assert folder.older is not None
    then(folder)
    folder.close()
