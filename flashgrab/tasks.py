"""Ends background tasks for certain."""

import asyncio
from collections.abc import Iterable
from typing import Any

AGAIN_MS = 50


async def end(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancel, until all are done. Once is not enough: redis-py sends with `asyncio.wait_for`, which
    up to Python 3.11 swallows a cancellation that comes as the thing waited for gets done."""
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=AGAIN_MS / 1000)
