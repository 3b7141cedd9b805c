"""One stack for all of this: two gateway processes, traces on."""

from collections.abc import Iterator

import pytest

from tests.cli.stack_process import data_folder
from tests.e2e.running import Stack, stack
from tests.observability.collector import Collector, collecting


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="package")
def watched(collector: Collector) -> Iterator[Stack]:
    """`flashgrab up --demo --processes 2` whose spans go to the collector."""
    environment = {"FLASHGRAB_TRACES_URL": collector.url, "FLASHGRAB_LOG_JSON": "1"}
    with (
        data_folder() as folder,
        stack(folder, "--demo", "--processes", "2", environment=environment) as running,
    ):
        yield running
