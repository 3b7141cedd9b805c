"""The file of a backup: a zip archive of one member a table, and a manifest that vouches for them.

The members hold what PostgreSQL's COPY writes as text, which does not depend on its version. The
manifest comes last, when rows and checksums are known; a file that was cut off has none.
"""

import hashlib
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from flashgrab.errors import FlashgrabError

FORMAT = 1
MANIFEST = "manifest.json"
CHUNK_BYTES = 1 << 20
_LEVEL = 1  # the disk is slower than this, and more saves little of ids and times


class BackupUnusable(FlashgrabError):
    """A file that is no backup, is damaged, or was written by a newer release."""


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: what it should hold."""

    name: str
    columns: tuple[str, ...]
    rows: int
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the file says of itself. `revision` is the ledger's schema when it was written."""

    format: int
    product: str
    revision: str
    at_ms: int
    tables: tuple[Table, ...]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


class _Said(msgspec.Struct, frozen=True):
    """What a manifest of any later format has too."""

    format: int
    product: str


class BackupWriter:
    """Takes the tables one after another; see `writing`."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._tables: list[Table] = []

    @contextmanager
    def table(self, name: str, columns: tuple[str, ...]) -> Iterator["TableWriter"]:
        """The writer of one table."""
        with self._archive.open(_member(name), "w", force_zip64=True) as member:
            writer = TableWriter(member)
            yield writer
        self._tables.append(
            Table(name, columns, writer.rows, writer.size_bytes, writer.digest.hexdigest())
        )

    def finish(self, product: str, revision: str, at_ms: int) -> Manifest:
        """Write the manifest; only now the file is a backup."""
        manifest = Manifest(FORMAT, product, revision, at_ms, tuple(self._tables))
        text = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
        self._archive.writestr(MANIFEST, text + b"\n")
        return manifest


class TableWriter:
    """Counts and sums up what goes into a member."""

    def __init__(self, member: IO[bytes]) -> None:
        self._member = member
        self.rows = 0
        self.size_bytes = 0
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> None:
        self._member.write(data)
        self.digest.update(data)
        self.rows += data.count(b"\n")  # COPY writes a line break inside a value as \n
        self.size_bytes += len(data)


@contextmanager
def writing(path: Path) -> Iterator[BackupWriter]:
    """Write beside `path`, and rename at the end: there is a whole file of this name, or none.

    Mode 0600, since it holds who has what. Raises FileExistsError where `path` is there.
    """
    if path.exists():
        raise FileExistsError(f"{path} is there already")
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as output:
            with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as zipped:
                yield BackupWriter(zipped)
            output.flush()
            os.fsync(output.fileno())
        fresh.rename(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


class BackupReader:
    """An open backup whose manifest is in order; `check` reads the rest of it."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._archive = archive
        self.manifest = manifest

    def check(self) -> None:
        """Read everything and hold it against the manifest. Raises BackupUnusable."""
        for table in self.manifest.tables:
            rows, size_bytes, digest = 0, 0, hashlib.sha256()
            for data in self.read(table):
                rows += data.count(b"\n")
                size_bytes += len(data)
                digest.update(data)
            if (rows, size_bytes, digest.hexdigest()) != (
                table.rows,
                table.size_bytes,
                table.sha256,
            ):
                raise BackupUnusable(f"it is damaged: table {table.name} is not as it was written")

    def read(self, table: Table) -> Iterator[bytes]:
        """The lines of a table in pieces. Raises BackupUnusable."""
        try:
            with self._archive.open(_member(table.name)) as member:
                while data := member.read(CHUNK_BYTES):
                    yield data
        except (*_BROKEN, KeyError) as error:
            raise BackupUnusable(f"it is damaged: table {table.name} ({error})") from error


_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error),
    *(EOFError, OSError, ValueError, RuntimeError, NotImplementedError),
)
"""What reading a damaged archive raises."""


@contextmanager
def reading(path: Path, head: str) -> Iterator[BackupReader]:
    """A backup that this release, with ledger schema `head`, can restore. Raises BackupUnusable."""
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError:
        raise BackupUnusable("there is no such file") from None
    except _BROKEN as error:
        raise BackupUnusable(f"it is no backup, or is damaged or cut off ({error})") from error
    with archive:
        yield BackupReader(archive, _manifest(archive, head))


def _manifest(archive: zipfile.ZipFile, head: str) -> Manifest:
    try:
        text = archive.read(MANIFEST)
        said = msgspec.json.decode(text, type=_Said)
        if said.format > FORMAT:
            raise _newer(said.product, "format", said.format, FORMAT)
        manifest = msgspec.json.decode(text, type=Manifest)
    except KeyError:
        raise BackupUnusable("it is no backup of flashgrab: it has no manifest") from None
    except (*_BROKEN, msgspec.MsgspecError) as error:
        raise BackupUnusable(f"it is damaged: its manifest cannot be read ({error})") from error
    if manifest.revision > head:
        raise _newer(manifest.product, "ledger schema", manifest.revision, head)
    return manifest


def _newer(product: object, what: str, theirs: object, ours: object) -> BackupUnusable:
    return BackupUnusable(
        f"it is of a newer release ({product}, {what} {theirs}; this one knows {ours}):"
        " restore it with that release"
    )


def _member(table: str) -> str:
    return f"tables/{table}.copy"


def _sync_folder(folder: Path) -> None:
    """The new name itself survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
