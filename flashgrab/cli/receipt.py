"""`flashgrab receipt …`: check signed receipts without any network, and make the keys that sign."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli import tables
from flashgrab.cli.failure import fail
from flashgrab.clock import to_rfc3339
from flashgrab.jwks import read_keys
from flashgrab.receipts import RECEIPT_LENGTH_MAX, Receipt, new_key
from flashgrab.receipts import verify as verified

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@app.callback()
def group() -> None:
    """Receipts: what a gateway says of a grab, signed."""


@app.command(epilog="Example: flashgrab receipt verify eyJ… --keys receipt-keys.json --user alice")
def verify(
    receipt: Annotated[str, typer.Argument(metavar="RECEIPT", help="It, or - for stdin.")],
    keys: Annotated[
        Path,
        typer.Option(dir_okay=False, help="What /v1/receipt-keys gives, or a PEM public key."),
    ],
    user: Annotated[str, typer.Option(metavar="ID", help="Whose it must be.")] = "",
    campaign: Annotated[str, typer.Option(metavar="ID", help="Of which campaign.")] = "",
    age_max_s: Annotated[int, typer.Option("--max-age-s", min=0, help="Refuse older ones.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Is a receipt genuine? Exit 1 where it is not. Touches no network.

    It says what was so at its time: a coupon may have been returned since.
    """
    text = sys.stdin.read(RECEIPT_LENGTH_MAX + 2) if receipt == "-" else receipt
    try:
        known = read_keys(keys.read_bytes())
    except OSError as error:
        fail(f"{keys}: cannot be read: {error.strerror}")
    except ValueError as error:
        fail(f"{keys}: {error}")
    said = verified(text.strip(), known)
    wrong = _wrong(said, user, campaign, age_max_s)
    if json:
        tables.print_json({"ok": not wrong, "wrong": wrong, **(said._asdict() if said else {})})
    elif said is not None:
        at = to_rfc3339(said.at_s * 1000)
        print(f"{said.grab_id} of {said.user_id}, round {said.round}: {said.state} at {at}")
    if wrong and not json:
        print(f"not to be taken: {wrong}")
    raise typer.Exit(1 if wrong else 0)


@app.command(epilog="Example: flashgrab receipt key --kid r1")
def key(
    kid: Annotated[str, typer.Option(help="Its name, 1 to 16 letters or digits.")] = "r1",
) -> None:
    """Print a new key for FLASHGRAB_RECEIPT_KEY: a secret."""
    if not kid.isalnum() or not kid.isascii() or len(kid) > 16:
        fail(f"--kid {kid!r}: 1 to 16 letters or digits")
    print(new_key(kid))


def _wrong(said: Receipt | None, user: str, campaign: str, age_max_s: int) -> str:
    if said is None:
        return "it was not signed by these keys"
    if user and said.user_id != user:
        return "it is of another user"
    if campaign and said.grab_id.rpartition("-")[0] != campaign:
        return "it is of another campaign"
    if age_max_s and said.at_s < time.time() - age_max_s:
        return "it is too old"
    return ""
