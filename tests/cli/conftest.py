"""A folder for the state of `up`: PostgreSQL's user must be able to pass through its parents."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def data() -> Iterator[Path]:
    """A folder that does not exist yet."""
    parent = Path(tempfile.mkdtemp(prefix="flashgrab-up-"))
    yield parent / "data"
    shutil.rmtree(parent, ignore_errors=True)
