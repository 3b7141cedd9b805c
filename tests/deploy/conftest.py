"""All services of docker-compose.yml but its extras, started once for all tests here."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.started import Started, started


@pytest.fixture(scope="package")
def composed() -> Iterator[Started]:
    """Each healthy by its own health check, in the order that `depends_on` asks for."""
    # Not pytest's tmp_path: pytest closes its folders to others, and PostgreSQL may run as nobody.
    folder = Path(tempfile.mkdtemp(prefix="flashgrab-composed-"))
    folder.chmod(0o711)
    try:
        with started(folder) as running:
            yield running
    finally:
        shutil.rmtree(folder, ignore_errors=True)
