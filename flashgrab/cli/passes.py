"""`flashgrab pass mint`: passes for load tests, signed here without any network (contract §4)."""

import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Annotated

import typer

from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, find
from flashgrab.ids import is_campaign_id, is_user_id
from flashgrab.passes import PassKeys, issue

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

USERS_MAX = 10_000_000
VALID_S_MAX = 366 * 86_400

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@app.callback()
def group() -> None:
    """Passes: what lets one user grab in one campaign."""


@app.command(epilog="Example: flashgrab pass mint --campaign demo-1 --users 1000 --out passes.txt")
def mint(
    campaign: Annotated[
        str,
        typer.Option(metavar="ID", help="The campaign of the passes.", autocompletion=campaign_ids),
    ],
    users: Annotated[int, typer.Option(min=1, max=USERS_MAX, help="How many, one a line.")],
    prefix: Annotated[str, typer.Option(help="User ids are this and 0 to N-1.")] = "u",
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="File (mode 0600) instead of stdout.")
    ] = None,
    valid: Annotated[str, typer.Option(help="From now: 90s, 30m, 24h, 7d.")] = "24h",
    data: DataOption = None,
) -> None:
    """Sign N passes here with the stack's PASS_KEYS; touches no network.

    A pass carries no device: in a campaign with per_device ask the gateway for passes instead.
    """
    if not is_campaign_id(campaign):
        fail(f"--campaign {campaign!r} is not a campaign id")
    if not is_user_id(f"{prefix}{users - 1}"):
        fail(f"--prefix {prefix!r}: user ids are 1 to 64 characters of A-Z a-z 0-9 . _ ~ @ -")
    valid_s = read_valid(valid)
    target = find(data, running=False).need("pass_keys")
    try:
        keys = PassKeys.parse(target.pass_keys)
    except ValueError as error:
        fail(f"FLASHGRAB_PASS_KEYS: {error}")
    print(f"target: {target.name}", file=sys.stderr)
    expires_ms = int((time.time() + valid_s) * 1000)
    try:
        with _writing(out) as file:
            for token in tokens(keys, campaign, users, prefix, expires_ms):
                file.write(token + "\n")
    except BrokenPipeError:  # `| head`: whoever reads has enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 # so that the exit flushes into nothing
    except OSError as error:
        fail(f"{out}: cannot be written: {error.strerror}")


def tokens(
    keys: PassKeys, campaign_id: str, users: int, prefix: str, expires_ms: int
) -> Iterator[str]:
    """The passes of users PREFIX0 to PREFIX(users-1)."""
    for number in range(users):
        yield issue(keys, campaign_id, f"{prefix}{number}", "", expires_ms)


def read_valid(text: str, option: str = "--valid") -> int:
    """`90s`, `30m`, `24h` or `7d` in seconds; exit 2 for anything else."""
    match = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", text, re.ASCII)
    if match is None or int(match[1]) * _UNIT_S[match[2]] > VALID_S_MAX:
        fail(f"{option} {text!r}: expected a time up to a year, such as 90s, 30m, 24h or 7d")
    return int(match[1]) * _UNIT_S[match[2]]


@contextlib.contextmanager
def _writing(out: Path | None) -> Iterator[IO[str]]:
    """stdout, or a file for its owner alone: who has a pass can grab with it."""
    if out is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    with os.fdopen(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        yield file
