"""What a fault is: made, undone, and only worth something if it really happened."""

import abc
import asyncio

from tests.faults.sale import until
from tests.faults.stack import FaultStack

BACK_S = 40.0


class NotReached(AssertionError):
    """The run shows nothing: its fault did not happen."""


class Fault(abc.ABC):
    """One thing that goes wrong with a stack. `name` is as results and schedules have it."""

    def __init__(self, stack: FaultStack, name: str) -> None:
        self.stack = stack
        self.name = name

    @abc.abstractmethod
    async def inject(self) -> None:
        """Make it happen; returns when it has begun."""

    async def heal(self) -> None:  # noqa: B027 -- a kill is healed by the supervisor
        """Undo it; returns when what it hit serves again."""

    @abc.abstractmethod
    def reached(self) -> bool:
        """Whether it did what its name says; asked after healing."""

    def check_reached(self) -> None:
        """Raises NotReached."""
        if not self.reached():
            raise NotReached(self.name)


async def serves(stack: FaultStack, name: str, not_pid: int | None = None) -> None:
    """Until a service answers, under another process id where one is given."""

    async def up() -> bool:
        service = stack.services[name]
        if service.pid in (None, not_pid):
            return False
        return await asyncio.to_thread(service.probe)

    await until(f"{name} serves", up, BACK_S)
