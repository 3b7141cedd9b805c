"""`flashgrab campaign …`: create, list, show and change campaigns through the centre."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli import campaigns, target
from flashgrab.cli.campaigns import Centre, Refused
from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.passes import read_valid
from flashgrab.cli.target import DataOption
from flashgrab.ids import is_campaign_id, is_idempotency_key, split_grab_id
from flashgrab.links import Link, LinkKeys
from flashgrab.model import QUOTA_MAX

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

IdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the campaign.", autocompletion=campaign_ids)
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
OperationOption = Annotated[
    str,
    typer.Option(
        "--operation",
        metavar="ID",
        help="Operation id, 1 to 64 of A-Z a-z 0-9 . _ ~ -; the same id is applied once.",
    ),
]
READ_REPEAT_S_MAX = 1.0
"""Who only looks is told soon that nobody is there."""
PUBLISH_SUFFIX = ".publish"
"""What `create --publish --operation ID` adds for its second operation."""


@app.callback()
def group() -> None:
    """Create, show, publish and manage campaigns.

    Exit 0: done, and Redis has it. 1: committed, but Redis does not have it yet. 2: refused.
    """


@app.command(
    epilog="Examples: flashgrab campaign create spring.toml"
    " · flashgrab campaign create spring.toml --publish"
)
def create(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Campaign file (TOML).")],
    publish: Annotated[bool, typer.Option("--publish", help="Publish it as well.")] = False,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Create a campaign from a file, as a DRAFT. The same content again is no error."""
    first = _operation(operation)
    second = first + PUBLISH_SUFFIX if operation else campaigns.new_operation()
    if publish and not is_idempotency_key(second):
        fail(f"--operation: with --publish it has at most {64 - len(PUBLISH_SUFFIX)} characters")
    definition = campaigns.read_file(file)
    with _centre(data, writes=True) as centre:
        done = campaigns.create(centre, definition, first, str(file))
        draft = done["status"] == "DRAFT"
        if not (publish and draft):
            note = f"campaign {definition.id} {_created(done)}"
            _say(done, json, note + ("; use --publish to open it" if draft else ""))
            return
        _finish(_refusable(centre, definition.id, "publish", second), json)


@app.command("list", epilog="Example: flashgrab campaign list --json")
def list_(json: JsonOption = False, data: DataOption = None) -> None:
    """List all campaigns of the ledger."""
    from flashgrab.cli import tables

    with _centre(data) as centre:
        found = _refused(lambda: list(centre.all()))
    if json:
        tables.print_json({"campaigns": found})
    else:
        tables.print_campaigns(found)


@app.command(epilog="Example: flashgrab campaign show spring-618")
def show(campaign_id: IdArgument, json: JsonOption = False, data: DataOption = None) -> None:
    """Show one campaign: what the ledger wants, and what Redis has."""
    from flashgrab.cli import tables

    _checked(campaign_id)
    with _centre(data) as centre:
        found = _refused(centre.show, campaign_id)
    if json:
        tables.print_json(found)
    else:
        tables.print_campaign(found)


@app.command(epilog="Example: flashgrab campaign publish spring-618")
def publish(
    campaign_id: IdArgument,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Publish a DRAFT: fixes its times and opens it to buyers."""
    _change(data, campaign_id, "publish", operation, json)


@app.command(epilog="Example: flashgrab campaign pause spring-618")
def pause(
    campaign_id: IdArgument,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Grant no more until resume; winners who ask again still learn that they won."""
    _change(data, campaign_id, "pause", operation, json)


@app.command(epilog="Example: flashgrab campaign resume spring-618")
def resume(
    campaign_id: IdArgument,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Go on after a pause."""
    _change(data, campaign_id, "resume", operation, json)


@app.command(epilog="Example: flashgrab campaign restock spring-618 --round 2 --add 500")
def restock(
    campaign_id: IdArgument,
    round_: Annotated[int, typer.Option("--round", min=1, help="Number of the round, from 1.")],
    add: Annotated[int, typer.Option("--add", min=1, max=QUOTA_MAX, help="Coupons more.")],
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Give a round a larger quota. With --operation, repeats apply once."""
    body = {"round": round_, "add": add}
    _change(data, campaign_id, "restock", operation, json, body)


@app.command(epilog="Example: flashgrab campaign close spring-618")
def close(
    campaign_id: IdArgument,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Take a campaign off (OFFLINE), for good."""
    _change(data, campaign_id, "close", operation, json)


@app.command(epilog="Example: flashgrab campaign rebuild spring-618 --within 120")
def rebuild(
    campaign_id: IdArgument,
    within: Annotated[float, typer.Option(min=0, help="Wait so long (s) for its end.")] = 120,
    without_kafka: Annotated[
        bool,
        typer.Option("--without-kafka", help="Kafka is gone for good: give up what only it has."),
    ] = False,
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Build Redis' side of a campaign anew from the ledger, under the next epoch.

    For a campaign that stays closed (NOT_WARMED) because Redis lost its data or knows too little.
    It is closed until the end; says how many acknowledgements may be lost at the most.
    """
    _checked(campaign_id)
    key = _operation(operation)

    def say(how_far: str) -> None:
        print(f"rebuild of {campaign_id}: {how_far}", file=sys.stderr)

    with _centre(data, writes=True) as centre:
        done = _refused(
            lambda: campaigns.rebuild(
                centre, campaign_id, key, within_s=within, without_kafka=without_kafka, say=say
            )
        )
    _finish(done, json)


def _rebuilt(report: dict[str, Any]) -> str:
    if report["epoch"] is None:
        return ""
    return (
        f", epoch {report['epoch']} with {report['coupons']:,} coupons up to seq"
        f" {report['cut']:,}; {report['taken_over']:,} taken over from the old outbox,"
        f" at most {report['lost_max']:,} acknowledgements lost"
        f" ({report['lost_seen']:,} facts were seen by somebody)"
    )


@app.command("return", epilog="Example: flashgrab campaign return spring-618-17")
def return_(
    grab_id: Annotated[str, typer.Argument(metavar="GRAB_ID", help="The coupon's grab id.")],
    operation: OperationOption = "",
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Take an unused coupon back into the stock of its round, for good (RETURNED).

    Its owner no longer holds it, and may grab again; his old key replays as RETURNED. Only a
    coupon that the ledger has can come back: seconds after the grab at the latest.
    """
    if split_grab_id(grab_id) is None:
        fail(f"{grab_id!r} is no grab id: expected campaign id and number, as in spring-618-17")
    key = _operation(operation)
    with _centre(data, writes=True) as centre:
        done = _refused(centre.give_back, grab_id, key)
    text = f"grab {done['grab_id']} return: {done['state']}, back in round {done['round']}"
    _say(done, json, text + (" (returned before, by this operation)" if done["repeated"] else ""))
    _unless_applied(done)


@app.command(epilog="Example: flashgrab campaign link spring-618 --valid 7d --channel mail")
def link(
    campaign_id: IdArgument,
    valid: Annotated[str, typer.Option(help="From now: 90s, 30m, 24h, 7d.")] = "7d",
    user: Annotated[str, typer.Option(help="For this user alone; else for who has it.")] = "",
    channel: Annotated[str, typer.Option(help="Where it is handed out: a-z 0-9 _ -.")] = "",
    data: DataOption = None,
) -> None:
    """Sign the token of a claim link, for a campaign with audience = "links"; no network.

    The shop's page sends it as X-Claim, or ?claim=, where it asks for a pass.
    """
    _checked(campaign_id)
    found = target.find(data, running=False).need("pass_keys")
    expires_ms = int((time.time() + read_valid(valid)) * 1000)
    try:
        keys = LinkKeys.parse(found.pass_keys)
    except ValueError as error:
        fail(f"FLASHGRAB_PASS_KEYS: {error}")
    try:
        typer.echo(keys.sign(Link(campaign_id, user, channel, expires_ms)))
    except ValueError as error:
        fail(str(error))


def _change(
    data: Path | None,
    campaign_id: str,
    action: str,
    operation: str,
    json: bool,
    body: dict[str, Any] | None = None,
) -> None:
    _checked(campaign_id)
    key = _operation(operation)
    with _centre(data, writes=True) as centre:
        _finish(_refusable(centre, campaign_id, action, key, body), json)


def _finish(done: dict[str, Any], json: bool) -> None:
    """Say what was done; exit 1 where Redis does not have it yet."""
    text = f"campaign {done['campaign_id']} {done['action']}: {done['status']}"
    if "quota" in done:
        text += f", round {done['round']} has quota {done['quota']}"
    if done.get("rebuild"):
        text += _rebuilt(done["rebuild"])
    text += f" (version {done['version']}{', applied before' if done['repeated'] else ''})"
    _say(done, json, text)
    _unless_applied(done)


def _unless_applied(done: dict[str, Any]) -> None:
    if not done["applied"]:
        print(f"flashgrab: committed, but not in Redis yet: {done['trouble']}", file=sys.stderr)
        raise typer.Exit(1)


def _say(done: dict[str, Any], json: bool, text: str) -> None:
    if json:
        from flashgrab.cli import tables

        tables.print_json(done)
    else:
        typer.echo(text)


def _created(done: dict[str, Any]) -> str:
    if done["there"]:
        return f"is there already with the same content ({done['status']})"
    return "created before, by this operation" if done["repeated"] else "created (DRAFT)"


def _centre(data: Path | None, *, writes: bool = False) -> Centre:
    found = (
        target.writing_to_centre(data)
        if writes
        else target.find(data).need("centre_url", "admin_token")
    )
    seconds = campaigns.REPEAT_S_MAX if writes else READ_REPEAT_S_MAX
    return Centre(found.centre_url, found.admin_token, repeat_s_max=seconds)


def _operation(given: str) -> str:
    if given and not is_idempotency_key(given):
        fail("--operation: expected 1 to 64 characters of A-Z a-z 0-9 . _ ~ -")
    return given or campaigns.new_operation()


def _checked(campaign_id: str) -> None:
    if not is_campaign_id(campaign_id):
        fail(f"{campaign_id!r} is no campaign id: expected 1 to 48 of a-z 0-9 _ -")


def _refusable(centre: Centre, *what: Any) -> dict[str, Any]:
    done: dict[str, Any] = _refused(centre.change, *what)
    return done


def _refused(ask: Callable[..., Any], *what: Any) -> Any:
    """The answer to a request; a refusal of the centre is exit 2 with its detail."""
    try:
        return ask(*what)
    except Refused as refused:
        fail(str(refused))
