"""Fixtures of more than one package: a whole stack, started once a session."""

import os
from collections.abc import Iterator

import pytest

from tests.e2e.running import Stack, stack


@pytest.fixture(scope="session")
def running_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """`flashgrab up --demo` on the embedded servers; tests use campaigns of their own."""
    with stack(tmp_path_factory.mktemp("stack") / "data", "--demo") as running:
        yield running


def require(missing: str | None) -> None:
    """What a test needs beyond pip: required in CI, else the test is skipped with the reason."""
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
