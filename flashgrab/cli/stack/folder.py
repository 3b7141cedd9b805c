"""The data folder of `up`: whose it is, who uses it now, and where each thing lies in it."""

import contextlib
import fcntl
import os
from pathlib import Path
from typing import IO

from flashgrab.cli.stack.service import ServiceFailed

LAYOUT = "1"  # grows when a folder of an older flashgrab can no longer be used as it is
_MARK = "flashgrab data"


class DataFolder:
    """An exclusive hold on a data folder, from `open` to `close`."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
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

    def log(self, name: str) -> Path:
        return self.path / "logs" / f"{name}.log"

    def open(self) -> None:
        """Create or take over the folder. Raises ServiceFailed when it is not ours to use."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._check_mark()
            self._take_lock()
            (self.path / "version").write_text(f"{_MARK} {LAYOUT}\n")
        except OSError as error:
            raise ServiceFailed(
                f"the data folder {self.path} cannot be used ({error.strerror or error}): "
                "choose another with --data"
            ) from error

    def close(self) -> None:
        """Let go; another `up` may take it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_mark(self) -> None:
        mark = self.path / "version"
        if not mark.exists():
            if {entry.name for entry in self.path.iterdir()} - {"lock"}:
                raise ServiceFailed(
                    f"{self.path} is not empty and not a data folder of flashgrab: "
                    "choose an empty or a new one with --data"
                )
            return
        text = mark.read_text(errors="replace").strip()
        if text != f"{_MARK} {LAYOUT}":
            raise ServiceFailed(
                f"{self.path} is of another version ({text[:40]!r}; this is {_MARK} {LAYOUT}): "
                "use the flashgrab that made it, or another folder with --data"
            )

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


def write_whole(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file at once: a reader sees the old text or the new one, never a part."""
    fresh = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w") as output:
        output.write(text)
    fresh.replace(path)
