"""`flashgrab segment …`: the list of users that a campaign is for."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from flashgrab.cli import target
from flashgrab.cli.campaigns import Centre, Refused, new_operation
from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption
from flashgrab.ids import is_campaign_id
from flashgrab.segments import LINE_BYTES_MAX, MEMBERS_MAX

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

CampaignArgument = Annotated[
    str,
    typer.Argument(metavar="CAMPAIGN", help="Id of the campaign.", autocompletion=campaign_ids),
]


@app.callback()
def group() -> None:
    """Segments: the users that a campaign with audience = "segment" is for."""


@app.command(epilog="Example: flashgrab segment load spring-618 vip.txt")
def load(
    campaign: CampaignArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="User ids, one a line.")],
    data: DataOption = None,
) -> None:
    """Load the list, in place of the one before. The same list again changes nothing.

    Kept are keyed digests, not the ids. Exit 1: committed, but Redis does not have it yet.
    """
    _checked(campaign)
    try:
        if file.stat().st_size > MEMBERS_MAX * LINE_BYTES_MAX:
            fail(f"{file}: a segment has at most {MEMBERS_MAX:,} users")
        users = file.read_bytes()
    except OSError as error:
        fail(f"{file}: cannot be read: {error.strerror}")
    found = target.writing_to_centre(data)
    with Centre(found.centre_url, found.admin_token) as centre:
        try:
            done = centre.load_segment(campaign, users, new_operation())
        except Refused as refused:
            fail(f"{file}: {refused}")
    before = ", the same as before" if done["there"] else ""
    typer.echo(f"segment {done['segment']} of {campaign}: {done['members']:,} users{before}")
    if not done["applied"]:
        print(f"flashgrab: committed, but not in Redis yet: {done['trouble']}", file=sys.stderr)
        raise typer.Exit(1)


@app.command(epilog="Example: flashgrab segment show spring-618")
def show(campaign: CampaignArgument, data: DataOption = None) -> None:
    """Say how many users it has, and since when."""
    _checked(campaign)
    found = target.find(data).need("centre_url", "admin_token")
    with Centre(found.centre_url, found.admin_token) as centre:
        try:
            kept = centre.segment(campaign)
        except Refused as refused:
            fail(str(refused))
    since = f", loaded {kept['loaded_at']}" if kept["loaded_at"] else "; none was loaded yet"
    typer.echo(f"segment {kept['segment']} of {campaign}: {kept['members']:,} users{since}")


def _checked(campaign_id: str) -> None:
    if not is_campaign_id(campaign_id):
        fail(f"{campaign_id!r} is no campaign id: expected 1 to 48 of a-z 0-9 _ -")
