"""`flashgrab top`: watch the sale, one line a second, from the /metrics of all parts."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer

from flashgrab.cli import readings, target
from flashgrab.cli.failure import Failure, fail
from flashgrab.cli.readings import Line, Reading
from flashgrab.cli.target import DataOption
from flashgrab.clock import to_rfc3339
from flashgrab.ids import is_campaign_id

app = typer.Typer(rich_markup_mode=None)

HEADER_EVERY = 20
TIMEOUT_S_MAX = 0.8

# Columns of grabs per second; what no column names is in `other`.
COLUMNS: dict[str, tuple[str, ...]] = {
    "granted": ("GRANTED",),
    "replayed": ("REPLAYED",),
    "limit": ("USER_LIMIT", "DEVICE_LIMIT"),
    "sold-out": ("SOLD_OUT",),
    "early": ("NOT_STARTED",),
    "busy": ("BUSY", "NOT_WARMED", "BACKEND_UNAVAILABLE", "RATE_LIMITED"),
}
_NAMED = frozenset(outcome for some in COLUMNS.values() for outcome in some)
_WIDTH = 9


@app.command(epilog="Example: flashgrab top --interval 5 --json")
def top(
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds a line.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many lines.")] = None,
    campaign: Annotated[
        str | None, typer.Option(metavar="ID", help="Only this campaign (latencies are of all).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    data: DataOption = None,
) -> None:
    """Show grabs a second by outcome, latency, left, outbox, ledger lag and the books.

    p50 and p99 are the gateway's, in ms; left, outbox (entries) and lag (facts not yet in the
    ledger) are sums over the campaigns. Parts may come and go; "-" means that no part that
    answers knows. Until Ctrl-C. Exit 1 if the books are broken in the last line.
    """
    if campaign is not None and not is_campaign_id(campaign):
        fail(f"{campaign!r} is not a campaign id")
    target.find(data)  # exit 2 where nothing runs; later it may come and go
    watch = Watch(data, campaign, as_json)
    try:
        asyncio.run(watch.run(interval, count))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head`: whoever reads has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 # so that the exit flushes into nothing
    raise typer.Exit(1 if watch.broken else 0)


class Watch:
    """The readings so far, and what was printed of them."""

    def __init__(self, data: Path | None, campaign: str | None, as_json: bool) -> None:
        self._data = data
        self._campaign = campaign
        self._as_json = as_json
        self._known: dict[str, Reading] = {}
        self.broken = False

    async def run(self, interval_s: float, count: int | None) -> None:
        """A line each interval; the first after one interval, since rates need two readings."""
        timeout_s = min(interval_s, TIMEOUT_S_MAX)
        async with httpx2.AsyncClient(timeout=timeout_s, trust_env=False) as http:
            await self._read(http)
            due_s = time.monotonic()
            printed = 0
            while count is None or printed < count:
                due_s = max(due_s + interval_s, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())
                before = dict(self._known)
                now, silent = await self._read(http)
                line = readings.compare(before, now)
                self.broken = line.books_ok is False
                if not self._as_json and printed % HEADER_EVERY == 0:
                    print(header())
                print(as_json(line, silent) if self._as_json else row(line, silent), flush=True)
                printed += 1

    async def _read(self, http: httpx2.AsyncClient) -> tuple[dict[str, Reading], list[str]]:
        """What answers now, by address, and the parts of which none does."""
        try:
            addresses = target.find(self._data).metrics
        except Failure:
            addresses = {}
        urls = [(part, url) for part in target.METRICS_PORTS for url in addresses.get(part, ())]
        texts = await asyncio.gather(*(self._ask(http, url) for _, url in urls))
        now = {url: found for (_, url), found in zip(urls, texts, strict=True) if found is not None}
        self._known |= now
        answering = {part for part, url in urls if url in now}
        return now, [part for part in target.METRICS_PORTS if part not in answering]

    async def _ask(self, http: httpx2.AsyncClient, url: str) -> Reading | None:
        try:
            reply = await http.get(url)
            return readings.read(reply.raise_for_status().text, time.monotonic(), self._campaign)
        except (httpx2.HTTPError, ValueError, KeyError):
            return None


def header() -> str:
    """The names of the columns."""
    names = ["grabs/s", *COLUMNS, "other", "p50 ms", "p99 ms", "left", "outbox", "lag"]
    return "time    " + "".join(name.rjust(_WIDTH) for name in names) + "  books"


def row(line: Line, silent: list[str]) -> str:
    """One line for people; `silent` are the parts that do not answer."""
    by_column = [sum(line.grabs.get(o, 0.0) for o in some) for some in COLUMNS.values()]
    other = sum(rate for outcome, rate in line.grabs.items() if outcome not in _NAMED)
    cells = [f"{rate:,.0f}" for rate in (sum(line.grabs.values()), *by_column, other)]
    cells += [_number(line.p50_ms, 1), _number(line.p99_ms, 1)]
    cells += [_number(value, 0) for value in (line.left, line.outbox, line.lag)]
    books = {True: "ok", False: "BROKEN " + ", ".join(line.broken[:3]), None: "-"}[line.books_ok]
    notes = f"  no {', '.join(silent)}" if silent else ""
    numbers = "".join(cell.rjust(_WIDTH) for cell in cells)
    return f"{datetime.now().astimezone():%H:%M:%S}{numbers}  {books}{notes}"


def as_json(line: Line, silent: list[str]) -> str:
    """One line for programs."""
    shown: Mapping[str, Any] = {
        "at": to_rfc3339(time.time_ns() // 1_000_000),
        "grabs_per_second": {name: round(rate, 1) for name, rate in sorted(line.grabs.items())},
        "p50_ms": line.p50_ms,
        "p99_ms": line.p99_ms,
        "left": line.left,
        "outbox": line.outbox,
        "lag": line.lag,
        "books_ok": line.books_ok,
        "broken": list(line.broken),
        "silent": silent,
    }
    return json.dumps(shown)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
