"""Ending a part in order: SIGTERM or SIGINT asks it to stop, and a bound ends the asking."""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

import structlog

from flashgrab.tasks import end

DRAIN_MS = 8000

log = structlog.get_logger()


async def end_all(tasks: Iterable["asyncio.Task[Any]"], within_ms: int) -> None:
    """Wait until all have ended, and cancel what has not in time. Raises nothing of theirs.

    A call into aiokafka that is cancelled leaves its connection open, so this waits first.
    """
    some = set(tasks)
    _, late = await asyncio.wait(some, timeout=within_ms / 1000)
    for task in late:
        log.warning("did not end in time", task=task.get_name(), bound_ms=within_ms)
    await end(late)
    await asyncio.gather(*some, return_exceptions=True)


async def run_until_signal(*parts: tuple[Coroutine[Any, Any, None], Callable[[], None]]) -> None:
    """Run the parts until a signal, then call the `stop` of each and give them DRAIN_MS to end.

    A part that ends by itself ends the others, too. Raises what the first failing one raises.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    waiting = asyncio.create_task(signalled.wait(), name="signal")
    tasks = [asyncio.create_task(coroutine) for coroutine, _ in parts]
    try:
        await asyncio.wait({*tasks, waiting}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for _, stop in parts:
            stop()
        waiting.cancel()
        await end_all(tasks, DRAIN_MS)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
    for task in tasks:
        if not task.cancelled():
            task.result()
