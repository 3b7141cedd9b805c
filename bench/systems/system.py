"""What a system of the comparison is."""

from pathlib import Path
from typing import Protocol

from bench.books import Books
from bench.passes import Passes


class System(Protocol):
    """A server that grants coupons, or (without books) only answers."""

    name: str
    workloads: frozenset[str]
    """Of W1, W2, W3: those that it is held against."""

    @property
    def passes(self) -> Passes:
        """The form of pass that it takes."""
        ...

    @property
    def books(self) -> Books | None:
        """What it keeps in Redis; None: it keeps nothing there."""
        ...

    def missing(self) -> str | None:
        """Why it cannot run on this machine, or None."""
        ...

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        """Argument vector and environment of the server; the folder is its own. Raises BadRun."""
        ...
