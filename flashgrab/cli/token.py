"""`flashgrab token …`: who of the staff may manage, and who did what, through the centre."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli import campaigns, target
from flashgrab.cli.campaigns import Centre, Refused
from flashgrab.cli.failure import fail
from flashgrab.cli.passes import read_valid
from flashgrab.cli.target import DataOption
from flashgrab.staff import Role, is_credential_id

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback()
def group() -> None:
    """Tokens of the staff, each with a role, and the log of what was done with them.

    Needs an admin's token in FLASHGRAB_ADMIN_TOKEN, or a data folder; sign-in takes any.
    """


@app.command(epilog="Example: flashgrab token create --role operator --name ann --valid 90d")
def create(
    role: Annotated[Role, typer.Option(help="What its holder may do.")],
    name: Annotated[str, typer.Option(help="Whose it is: 1 to 64 of A-Z a-z 0-9 . _ @ -.")],
    valid: Annotated[str, typer.Option(help="From now: 90s, 30m, 24h, 7d.")] = "90d",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Make a token. It is printed now and never again: only its hash is kept."""
    valid_s = read_valid(valid)
    with _centre(data, writes=True) as centre:
        made = centre.make_token(name, role.value, valid_s, campaigns.new_operation())
    if json:
        _print_json(made)
        return
    print(f"token {made['id']} of {name} ({role.value}) until {made['expires_at']}:",
          file=sys.stderr)  # fmt: skip
    typer.echo(made["token"])


@app.command("list", epilog="Example: flashgrab token list --json")
def list_(json: JsonOption = False, data: DataOption = None) -> None:
    """List tokens, sign-in links and sessions, the newest first."""
    from flashgrab.cli import tables

    with _centre(data) as centre:
        found = centre.tokens()
    if json:
        _print_json({"tokens": found})
    else:
        tables.print_tokens(found)


@app.command(epilog="Example: flashgrab token revoke 3f2a91c07b5d4e68")
def revoke(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of `flashgrab token list`.")],
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Revoke a token, a link or a session: it is refused from its next request on."""
    if not is_credential_id(id_):
        fail(f"{id_[:40]!r} is no id of a token: see `flashgrab token list`")
    with _centre(data, writes=True) as centre:
        done = centre.revoke_token(id_, campaigns.new_operation())
    if json:
        _print_json(done)
    else:
        typer.echo(f"{done['kind']} {id_} of {done['name']} is over since {done['ended_at']}")


@app.command(epilog="Example: flashgrab token log --name ann --limit 20")
def log(
    name: Annotated[str, typer.Option(help="Of this person only.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The latest so many.")] = 100,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Who did what, the newest first. Outcome unknown: nobody knows whether it happened."""
    from flashgrab.cli import tables

    with _centre(data) as centre:
        found = centre.staff_log(limit, name)
    if json:
        _print_json({"entries": found})
    else:
        tables.print_staff_log(found)


@app.command("sign-in", epilog="Example: flashgrab token sign-in")
def sign_in(json: JsonOption = False, data: DataOption = None) -> None:
    """Print a link that signs you in to the pages of the centre, once, within 10 minutes."""
    with _centre(data, writes=True) as centre:
        link = centre.sign_in(campaigns.new_operation())
    if json:
        _print_json(link)
    else:
        typer.echo(link["url"])


@app.command("view-link", epilog="Example: flashgrab token view-link --valid 8h")
def view_link(
    valid: Annotated[str, typer.Option(help="From now, 7d at the most: 30m, 12h, 7d.")] = "12h",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Print a link to the console for colleagues: it shows everything there and changes nothing."""
    valid_s = read_valid(valid)
    with _centre(data, writes=True) as centre:
        link = centre.view_link(valid_s, campaigns.new_operation())
    if json:
        _print_json(link)
    else:
        typer.echo(link["url"])


@contextmanager
def _centre(data: Path | None, *, writes: bool = False) -> Iterator[Centre]:
    """A refusal is exit 2 with its detail."""
    found = target.find(data, environment=os.environ).need("centre_url", "admin_token")
    if writes:
        url = target.without_password(found.centre_url)
        print(f"target: {found.name}, centre {url}", file=sys.stderr)
    try:
        with Centre(found.centre_url, found.admin_token) as centre:
            yield centre
    except Refused as refused:
        fail(str(refused))


def _print_json(value: object) -> None:
    from flashgrab.cli import tables

    tables.print_json(value)
