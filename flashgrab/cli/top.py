"""`flashgrab top`: watch the sale from the /metrics of all parts, live or a line a second."""

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli import target
from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.readings import Line
from flashgrab.cli.sampling import TIMEOUT_S_MAX, Sampler, client
from flashgrab.cli.screen.live import Screen, is_terminal
from flashgrab.cli.target import DataOption
from flashgrab.clock import to_rfc3339
from flashgrab.ids import is_campaign_id

app = typer.Typer(rich_markup_mode=None)

HEADER_EVERY = 20

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


@app.command(
    epilog="Examples: flashgrab top · "
    "flashgrab top --campaign demo-1 --interval 0.5 --count 2 --json"
)
def top(
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds a line.")] = 1.0,
    count: Annotated[int | None, typer.Option(min=1, help="Stop after so many lines.")] = None,
    campaign: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="Only this campaign (latencies are of all).",
            autocompletion=campaign_ids,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    lines: Annotated[bool, typer.Option("--lines", help="Lines on a terminal too.")] = False,
    data: DataOption = None,
) -> None:
    """Show grabs a second by outcome, latency, left, outbox, ledger lag and the books.

    On a terminal a live screen: 1-9 chooses a campaign, 0 all, p holds the picture, ? says more,
    q ends it. Elsewhere, and with --lines or --json, a line each interval. Latencies are the
    gateway's, in ms; left, outbox (entries) and lag (facts not yet in the ledger) are sums over the
    campaigns. Parts may come and go; "-" means that no part that answers knows. Until q or Ctrl-C.
    Exit 1 if the books are broken at the end.
    """
    if campaign is not None and not is_campaign_id(campaign):
        fail(f"{campaign!r} is not a campaign id")
    target.find(data)  # exit 2 where nothing runs; later it may come and go
    watch: Lines | Screen
    if as_json or lines or not is_terminal():
        watch = Lines(data, campaign, as_json)
    else:
        watch = Screen(data, campaign)
    try:
        asyncio.run(watch.run(interval, count))
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:  # `| head`: whoever reads has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 # so that the exit flushes into nothing
    raise typer.Exit(1 if watch.broken else 0)


class Lines:
    """A line each interval, for pipes and logs."""

    def __init__(self, data: Path | None, campaign: str | None, as_json: bool) -> None:
        self._data = data
        self._campaign = campaign
        self._as_json = as_json
        self.broken = False

    async def run(self, interval_s: float, count: int | None) -> None:
        """The first after one interval, since rates need two readings."""
        timeout_s = min(interval_s, TIMEOUT_S_MAX)
        async with client(timeout_s) as http:
            sampler = Sampler(self._data, http, public=False)
            await sampler.ask()
            due_s = time.monotonic()
            printed = 0
            while count is None or printed < count:
                due_s = max(due_s + interval_s, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())
                heard = await sampler.ask()
                line = heard.line(self._campaign)
                self.broken = line.books_ok is False
                if not self._as_json and printed % HEADER_EVERY == 0:
                    print(header())
                shown = as_json if self._as_json else row
                print(shown(line, heard.silent), flush=True)
                printed += 1


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
        "granted": line.granted,
        "p50_ms": line.p50_ms,
        "p95_ms": line.p95_ms,
        "p99_ms": line.p99_ms,
        "p999_ms": line.p999_ms,
        "batch": line.batch,
        "left": line.left,
        "outbox": line.outbox,
        "lag": line.lag,
        "relay_lag_s": line.relay_lag_s,
        "books_ok": line.books_ok,
        "broken": list(line.broken),
        "alarms": list(line.alarms),
        "silent": silent,
    }
    return json.dumps(shown)


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
