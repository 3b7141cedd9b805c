"""Fixtures of more than one package: a whole stack, started once a session."""

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from tests.cli.stack_process import data_folder
from tests.e2e.running import Stack, stack

SHOP_TOKEN = "the-token-of-the-shops-own-backend"
"""Of the running stack."""


FIRST = ("faults", "e2e", "browser", "cli", "centre", "gateway", "worker", "observability")
"""Packages whose files take longest: begun first, so that at the end no process waits for them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay in one process, since its servers are started once a process."""
    here = Path(__file__).parent
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            name = "-".join(item.path.relative_to(here).with_suffix("").parts)
            item.add_marker(pytest.mark.xdist_group(name))
    turn = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: turn.get(item.path.relative_to(here).parts[0], len(FIRST)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Not trio too, which selenium brings along."""
    return "asyncio"


@pytest.fixture(scope="session")
def running_stack() -> Iterator[Stack]:
    """`flashgrab up --demo` on the embedded servers; tests use campaigns of their own."""
    shop = {"FLASHGRAB_SHOP_TOKENS": f"shop:{sha256(SHOP_TOKEN.encode()).hexdigest()}"}
    with data_folder() as folder, stack(folder, "--demo", environment=shop) as running:
        yield running


@pytest.fixture
def data() -> Iterator[Path]:
    """A path for the state of `up` that does not exist yet."""
    with data_folder() as path:
        yield path


def require(missing: str | None) -> None:
    """What a test needs beyond pip: required in CI, else the test is skipped with the reason."""
    if missing is None:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)
