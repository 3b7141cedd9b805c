"""`flashgrab block …`: users, devices and networks that get no pass and no grab."""

import sys
import time
from typing import Annotated, Any

import typer

from flashgrab.blocks import Kind
from flashgrab.cli import target
from flashgrab.cli.campaigns import Centre, Refused, new_operation
from flashgrab.cli.failure import fail
from flashgrab.cli.passes import read_valid
from flashgrab.cli.target import DataOption
from flashgrab.clock import to_rfc3339

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

UserOption = Annotated[str, typer.Option("--user", metavar="ID", help="A user.")]
DeviceOption = Annotated[str, typer.Option("--device", metavar="ID", help="A device.")]
AddressOption = Annotated[
    str, typer.Option("--address", metavar="NET", help="An address or a network, IPv4 or IPv6.")
]


@app.callback()
def group() -> None:
    """The blocklist: every gateway has a change of it within a second.

    Exit 0: done, and Redis has it. 1: committed, but Redis does not have it yet. 2: refused.
    """


@app.command(epilog="Example: flashgrab block add --address 198.51.100.0/24 --why bots --for 24h")
def add(
    why: Annotated[str, typer.Option(help="The reason, for whoever looks later.")],
    user: UserOption = "",
    device: DeviceOption = "",
    address: AddressOption = "",
    for_: Annotated[str, typer.Option("--for", help="90s, 30m, 24h, 7d; else for ever.")] = "",
    by: Annotated[str, typer.Option(help="Who blocks; else whose token it is.")] = "",
    data: DataOption = None,
) -> None:
    """Block one user, device or network; again with another reason or end changes those."""
    kind, subject = _whom(user, device, address)
    body: dict[str, Any] = {"kind": kind, "subject": subject, "why": why}
    if by:
        body["by"] = by
    if for_:
        body["until"] = to_rfc3339(int(time.time() * 1000) + read_valid(for_, "--for") * 1000)
    found = target.writing_to_centre(data)
    with Centre(found.centre_url, found.admin_token) as centre:
        try:
            done = centre.block(body, new_operation())
        except Refused as refused:
            fail(str(refused))
    until = f"until {done['until']}" if done["until"] else "for ever"
    _end(done, f"{kind} {done['subject']} blocked {until}")


@app.command(epilog="Example: flashgrab block remove --user u17")
def remove(
    user: UserOption = "",
    device: DeviceOption = "",
    address: AddressOption = "",
    data: DataOption = None,
) -> None:
    """Let a user, device or network in again."""
    kind, subject = _whom(user, device, address)
    found = target.writing_to_centre(data)
    with Centre(found.centre_url, found.admin_token) as centre:
        try:
            done = centre.unblock(kind, subject, new_operation())
        except Refused as refused:
            fail(str(refused))
    was = "no longer blocked" if done["removed"] else "was not blocked"
    _end(done, f"{kind} {done['subject']} {was}")


@app.command("list", epilog="Example: flashgrab block list --json")
def list_(
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    data: DataOption = None,
) -> None:
    """What is blocked now: who, why, by whom, until when."""
    found = target.find(data).need("centre_url", "admin_token")
    with Centre(found.centre_url, found.admin_token) as centre:
        try:
            blocks = list(centre.blocks())
        except Refused as refused:
            fail(str(refused))
    if json:
        from flashgrab.cli import tables

        tables.print_json({"blocks": blocks})
        return
    for block in blocks:
        until = f"until {block['until']}" if block["until"] else "for ever"
        typer.echo(f"{block['kind']} {block['subject']} {until}: {block['why']} ({block['by']})")
    if not blocks:
        typer.echo("nobody is blocked")


def _whom(user: str, device: str, address: str) -> tuple[Kind, str]:
    given: list[tuple[Kind, str]] = [("user", user), ("device", device), ("address", address)]
    named = [(kind, subject) for kind, subject in given if subject]
    if len(named) != 1:
        fail("expected one of --user, --device and --address")
    return named[0]


def _end(done: dict[str, Any], text: str) -> None:
    typer.echo(text)
    if not done["applied"]:
        print(f"flashgrab: committed, but not in Redis yet: {done['trouble']}", file=sys.stderr)
        raise typer.Exit(1)
