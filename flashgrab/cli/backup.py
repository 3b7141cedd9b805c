"""`flashgrab backup`: the whole ledger, of one moment, in one file (contract §4)."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, find, unreachable, without_password

app = typer.Typer(rich_markup_mode=None)

TELL_EVERY_S = 2.0


@app.command(epilog="Example: flashgrab backup friday.backup")
def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The new file.", dir_okay=False)],
    as_json: Annotated[bool, typer.Option("--json", help="What was written, as JSON.")] = False,
    data: DataOption = None,
) -> None:
    """Write definitions and ledger to a new FILE; the sale goes on meanwhile.

    FILE holds who has which coupon: keep it as you keep the ledger.
    """
    from flashgrab.clock import SystemClock
    from flashgrab.errors import LedgerUnavailable
    from flashgrab.ledger.backup import LedgerEmpty
    from flashgrab.ledger.backup import backup as write

    if file.exists():
        fail(f"{file} is there already: name a new file")
    target = find(data).need("postgres_url")
    say_target(target.name, target.postgres_url)
    try:
        manifest = asyncio.run(write(target.postgres_url, file, SystemClock(), Tell("written")))
    except LedgerUnavailable as error:
        unreachable("the ledger", target.postgres_url, error)
    except LedgerEmpty as error:
        fail(str(error))
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror or error}")
    size = file.stat().st_size
    rows = {table.name: table.rows for table in manifest.tables}
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json({"file": str(file), "bytes": size, "revision": manifest.revision, "rows": rows})
        return
    what = f"{rows['campaigns']} campaigns, {rows['coupons']:,} coupons"
    print(f"{file}: {what}, {manifest.rows:,} rows in all, {size:,} bytes")


def say_target(name: str, postgres_url: str) -> None:
    """Before anything is done."""
    print(f"target: {name}, ledger {without_password(postgres_url)}", file=sys.stderr)


class Tell:
    """A line on stderr every two seconds, for ledgers that take longer."""

    def __init__(self, done: str) -> None:
        self._done = done
        self._told_at = time.monotonic()

    def __call__(self, table: str, rows: int) -> None:
        if time.monotonic() - self._told_at >= TELL_EVERY_S:
            self._told_at = time.monotonic()
            print(f"{table}: {rows:,} rows {self._done}", file=sys.stderr)
