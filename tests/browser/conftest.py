"""One browser for all of this, a fresh tab a test; it ends with the last of them."""

from collections.abc import Iterator

import pytest

from tests.browser import chromium
from tests.browser.chromium import Browser
from tests.browser.console import published
from tests.browser.sales import Sales, selling
from tests.cli.stack_process import data_folder
from tests.conftest import require
from tests.e2e.running import Stack, stack


@pytest.fixture(scope="package")
def _chromium() -> Iterator[Browser]:
    require(chromium.missing())
    with chromium.running() as found:
        yield found


@pytest.fixture
def browser(_chromium: Browser) -> Iterator[Browser]:
    """A fresh tab; at the end: no error in its console, no request to anybody else."""
    _chromium.fresh()
    yield _chromium
    _chromium.assert_quiet()


@pytest.fixture(scope="package")
def sales() -> Iterator[Sales]:
    """A gateway with the demo's identities, and campaigns for it."""
    with selling() as found:
        yield found


@pytest.fixture(scope="package")
def sold() -> Iterator[Stack]:
    """A whole stack for the operator's console; its first sale, `first`, is open."""
    require(chromium.missing())
    with data_folder() as folder, stack(folder) as running:
        published(running, "first", 50)
        yield running
