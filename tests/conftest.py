"""Fixtures of more than one package: a whole stack, started once a session."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from hashlib import sha256
from pathlib import Path

import pytest
import structlog

from tests.cli.stack_process import data_folder
from tests.e2e.running import Stack, stack

PLAIN = structlog.dev.ConsoleRenderer(
    colors=False, exception_formatter=structlog.dev.plain_traceback
)
structlog.configure(processors=[*structlog.get_config()["processors"][:-1], PLAIN])
"""As the parts have it: the default prints all locals of a traceback, for seconds."""
RUNNING = pytest.StashKey[ExitStack]()
SHOP_TOKEN = "the-token-of-the-shops-own-backend"
"""Of the running stack."""


FIRST = ("faults", "model", "e2e", "browser", "cli", "gateway", "worker", "centre", "observability")
"""Packages whose files take longest: begun first, so that at the end no process waits for them."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests stay in one process, since its servers are started once a process."""
    here = Path(__file__).parent
    for item in items:
        if not group(item):
            name = "-".join(item.path.relative_to(here).with_suffix("").parts)
            item.add_marker(pytest.mark.xdist_group(name))
    turn = {name: number for number, name in enumerate(FIRST)}
    items.sort(key=lambda item: turn.get(item.path.relative_to(here).parts[0], len(FIRST)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Not trio too, which selenium brings along."""
    return "asyncio"


@pytest.fixture(scope="session")
def running_stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """`flashgrab up --demo` on the embedded servers; tests use campaigns of their own."""
    shop = {"FLASHGRAB_SHOP_TOKENS": f"shop:{sha256(SHOP_TOKEN.encode()).hexdigest()}"}
    with ExitStack() as until_last_use:
        request.config.stash[RUNNING] = until_last_use
        folder = until_last_use.enter_context(data_folder())
        yield until_last_use.enter_context(stack(folder, "--demo", environment=shop))


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Where a group's tests run one after the other, the stack ends with the last: it costs CPU."""
    goes_on = nextitem is not None and group(nextitem) == "stack"
    together = getattr(item.config.option, "loadgroup", False)
    if together and group(item) == "stack" and not goes_on:
        item.config.stash.get(RUNNING, ExitStack()).close()


def group(item: pytest.Item) -> str:
    """Of pytest-xdist: its tests run one after the other in one process."""
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0]) if mark else ""


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
