"""Ending a part in order: SIGTERM or SIGINT asks it to stop, and a bound ends the asking."""

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import structlog

DRAIN_MS = 8000

log = structlog.get_logger()


async def run_until_signal(
    task: "asyncio.Task[Any]",
    stop: Callable[[], None],
    *,
    beside: "asyncio.Task[Any] | None" = None,
) -> None:
    """Wait for the task; at a signal call `stop` and give it DRAIN_MS to end, then cancel it.

    Raises what the task raises, or what the one `beside` it raises, which must not end first.
    """
    loop = asyncio.get_running_loop()
    signalled = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    waiting = asyncio.create_task(signalled.wait(), name="signal")
    watched = {task, waiting} | ({beside} if beside else set())
    try:
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        if not signalled.is_set():
            for one in (task, beside):
                if one is not None and one.done():
                    one.result()
            return
        stop()
        _, late = await asyncio.wait({task}, timeout=DRAIN_MS / 1000)
        if late:
            log.warning("did not end in time", bound_ms=DRAIN_MS)
            task.cancel()
            await asyncio.wait({task}, timeout=1)
        elif not task.cancelled():
            task.result()
    finally:
        waiting.cancel()
        task.cancel()
        await asyncio.gather(waiting, task, return_exceptions=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
