"""How far a rehearsal is, on stderr: a bar on a terminal, a line every two seconds elsewhere."""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

BAR_EVERY_S = 0.1
LINE_EVERY_S = 2.0


def say(line: str) -> None:
    """A line for people; the result alone goes to stdout."""
    print(line, file=sys.stderr, flush=True)


@asynccontextmanager
async def shown(total: int, state: Callable[[], tuple[int, int]]) -> AsyncIterator[None]:
    """Show while the block runs; `state` gives asks answered and coupons granted so far."""
    show = asyncio.create_task((_bar if sys.stderr.isatty() else _lines)(total, state))
    try:
        yield
    finally:
        show.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await show


async def _lines(total: int, state: Callable[[], tuple[int, int]]) -> None:
    began_s = time.monotonic()
    while True:
        await asyncio.sleep(LINE_EVERY_S)
        answered, granted = state()
        seconds = time.monotonic() - began_s
        say(f"{answered:,} of {total:,} answered, {granted:,} granted, {seconds:.0f} s")


async def _bar(total: int, state: Callable[[], tuple[int, int]]) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("grabs"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[granted]:,} granted"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as progress:
        task = progress.add_task("grabs", total=total, granted=0)

        def show() -> None:
            answered, granted = state()
            progress.update(task, completed=answered, granted=granted)
            progress.refresh()

        try:
            while True:
                show()
                await asyncio.sleep(BAR_EVERY_S)
        finally:
            show()
