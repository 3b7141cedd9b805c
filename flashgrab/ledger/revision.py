"""The ledger's schema that this code knows. Imports no driver: every `up` asks before it starts."""

from functools import cache
from pathlib import Path

MIGRATIONS = Path(__file__).parent.parent / "migrations"


@cache
def head() -> str:
    """The newest revision that this code has, from the names of the files."""
    return max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))
