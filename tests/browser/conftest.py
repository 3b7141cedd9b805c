"""One browser for all of this, a fresh tab a test; it ends with the last of them."""

from collections.abc import Iterator

import pytest

from tests.browser import chromium
from tests.browser.chromium import Browser
from tests.browser.sales import Sales, selling
from tests.conftest import require


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
