"""What a named scenario is: its stack, and one run of it."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from tests.faults.runner import Run
from tests.faults.stack import FaultStack, Shape


def nothing() -> str | None:
    """Needs nothing beyond pip."""
    return None


def plain() -> AbstractContextManager[Shape]:
    """The stack of two gateways and one worker."""
    return nullcontext(Shape())


@dataclass(frozen=True)
class Scenario:
    """`run` with a stack and a seed is one run. `fresh`: every run needs a stack of its own."""

    name: str
    title: str
    run: Callable[[FaultStack, int], Awaitable[Run]]
    shape: Callable[[], AbstractContextManager[Shape]] = plain
    missing: Callable[[], str | None] = nothing
    fresh: bool = False
    short: Callable[[FaultStack, int], Awaitable[Run]] | None = None
    """The same in seconds, where `run` takes minutes."""
