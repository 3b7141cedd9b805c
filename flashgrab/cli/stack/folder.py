"""The data folder of `up`: whose it is, who uses it now, and where each thing lies in it."""

import fcntl
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from flashgrab import scripts
from flashgrab.cli.stack.service import ServiceFailed
from flashgrab.cli.stack.wholefile import write_whole
from flashgrab.ledger.revision import head

LAYOUT = 2
"""Grows when files move in the folder. 1 was the same, but did not name the two schemas."""
_MARK = re.compile(r"flashgrab data (\d{1,4})(?: ledger (\d{4}) redis (\d{1,4}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class FolderVersion:
    """What made a folder: its layout, its ledger's schema ("" where not noted), and the newest that
    its campaigns may have in Redis."""

    layout: int
    ledger: str = ""
    redis: int = 0

    @classmethod
    def ours(cls) -> "FolderVersion":
        return cls(LAYOUT, head(), max(map(int, scripts.READS)))

    @classmethod
    def read(cls, path: Path) -> "FolderVersion | None":
        """Of a folder's mark; None where there is none. Raises ServiceFailed for any other text."""
        try:
            text = path.read_text(errors="replace").strip()
        except FileNotFoundError:
            return None
        found = _MARK.fullmatch(text)
        if found is None:
            raise ServiceFailed(
                f"{path.parent} is of another version ({text[:40]!r}; this is {cls.ours()}): "
                "use the flashgrab that made it, or another folder with --data"
            )
        return cls(int(found[1]), found[2] or "", int(found[3] or 0))

    def __str__(self) -> str:
        schemas = f" ledger {self.ledger} redis {self.redis}" if self.ledger else ""
        return f"flashgrab data {self.layout}{schemas}"

    @property
    def is_newer(self) -> bool:
        """Than this release, in any respect: it must not touch the folder."""
        ours = self.ours()
        return self.layout > ours.layout or self.ledger > ours.ledger or self.redis > ours.redis

    @property
    def is_older(self) -> bool:
        """A migration is due."""
        return not self.is_newer and self != self.ours()


class DataFolder:
    """An exclusive hold on a data folder, from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.older: FolderVersion | None = None
        """What it is to be migrated from, once it is open."""
        self._lock: IO[str] | None = None

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def secrets_file(self) -> Path:
        return self.path / "secrets.env"

    @property
    def pids_file(self) -> Path:
        return self.path / "pids.json"

    @property
    def ports_file(self) -> Path:
        return self.path / "ports.json"

    @property
    def version_file(self) -> Path:
        return self.path / "version"

    @property
    def backups(self) -> Path:
        """What was made before migrations."""
        return self.path / "backups"

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def open(self, *, migrate: bool = False) -> None:
        """Create or take over the folder. Raises ServiceFailed when it is not ours to use.

        With `migrate` one of an older release is taken too: see `older`.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.older = self._check_mark(migrate)
            self._take_lock()
            if self.older is None:
                self.mark()
        except OSError as error:
            raise ServiceFailed(
                f"the data folder {self.path} cannot be used ({error.strerror or error}): "
                "choose another with --data"
            ) from error

    def mark(self) -> None:
        """Note that everything in it is as this release has it."""
        write_whole(self.version_file, f"{FolderVersion.ours()}\n")

    def close(self) -> None:
        """Let go; another `up` may take it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_mark(self, migrate: bool) -> FolderVersion | None:
        found = FolderVersion.read(self.version_file)
        if found is None:
            if {entry.name for entry in self.path.iterdir()} - {"lock", ".version.new"}:
                raise ServiceFailed(
                    f"{self.path} is not empty and not a data folder of flashgrab: "
                    "choose an empty or a new one with --data"
                )
            return None
        if found.is_newer:
            raise ServiceFailed(
                f"{self.path} is of a newer version ({found}; this is {FolderVersion.ours()}): "
                "use the flashgrab that made it, or another folder with --data"
            )
        if not found.is_older:
            return None
        if not migrate:
            raise ServiceFailed(
                f"{self.path} is of an older version ({found}; this is {FolderVersion.ours()}): "
                f"`flashgrab up --migrate` writes a backup of its ledger to {self.backups}, "
                "migrates it and goes on"
            )
        return found

    def _take_lock(self) -> None:
        lock = (self.path / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            owner = lock.read().strip() or "?"
            lock.close()
            raise ServiceFailed(
                f"another flashgrab up (process {owner}) uses {self.path}: "
                "stop it, or choose another folder with --data"
            ) from None
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        self._lock = lock
