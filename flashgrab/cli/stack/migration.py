"""What `up --migrate` does between services and parts: a backup, then the newer schema.

Redis needs no step: a release reads the keys of the schema before its own (design.md). The folder
is marked last, so that after a kill at any moment the same is done again.
"""

from datetime import UTC, datetime

from flashgrab.cli.stack.folder import DataFolder, FolderVersion
from flashgrab.cli.stack.service import ServiceFailed
from flashgrab.clock import SystemClock
from flashgrab.errors import FlashgrabError
from flashgrab.ledger.backup import LedgerEmpty, backup
from flashgrab.ledger.migrate import migrate
from flashgrab.ledger.revision import head


async def run(folder: DataFolder, older: FolderVersion, postgres_url: str) -> str:
    """Returns a line that says what was done. Raises ServiceFailed; the ledger is as it was."""
    at = datetime.now(UTC)
    path = folder.backups / f"before-{head()}-{at:%Y%m%dT%H%M%SZ}.backup"
    try:
        folder.backups.mkdir(mode=0o700, exist_ok=True)
        try:
            manifest = await backup(postgres_url, path, SystemClock(), lambda _table, _rows: None)
            saved = f"ledger {manifest.revision} is kept in {path}"
        except LedgerEmpty:
            saved = "its ledger was empty"
        await migrate(postgres_url)
        folder.mark()
    except (FlashgrabError, OSError) as error:
        raise ServiceFailed(
            f"{folder.path} was not migrated, and is as it was ({error})"
        ) from error
    return f"migrated from {older} to {FolderVersion.ours()}; {saved}"
