"""A system on a fresh Valkey, served for one test, unpinned."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import pytest

from bench.processes import Cores
from bench.serving import Serving, serving
from bench.systems import all_systems
from tests.conftest import require

ANYWHERE = Cores(frozenset(), frozenset(), frozenset())


class Serve(Protocol):
    """Starts a system by its name with a stock."""

    def __call__(self, name: str, quota: int) -> AbstractContextManager[Serving]: ...


@pytest.fixture
def serve() -> Serve:
    """Skips with the reason where the system's tool is missing; CI has nginx, perhaps not Go."""

    @contextmanager
    def start(name: str, quota: int) -> Iterator[Serving]:
        system = next(s for s in all_systems() if s.name == name)
        missing = system.missing()
        if name.startswith("go-") and missing:
            pytest.skip(missing)
        require(missing)
        with serving(system, "no", quota, ANYWHERE) as server:
            yield server

    return start
