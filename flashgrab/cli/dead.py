"""`flashgrab dead …`: events that could not be stored, in the ledger's dead table.

It speaks to the ledger itself, as `audit` does: a letter goes back through the worker's own checks
in one transaction, and that must not need a centre.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, Target, find, unreachable, without_password
from flashgrab.clock import SystemClock, to_rfc3339
from flashgrab.ids import is_campaign_id

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True, add_completion=False)

SEQ_DIGITS_MAX = 14
ID_DIGITS_MIN = 8
VALUE_SHOWN = 2000
REPAIRED_BYTES_MAX = 100_000
WORDS = {
    "STORED": "in the ledger now",
    "THERE": "cannot be read, but the ledger has its fact from another message",
    "VOID": "a rebuild gave it up: nothing to store",
    "NO_FACT": "names no fact: nothing is missing by it",
    "BEFORE": "settled by an earlier retry",
    "REFUSED": "stays",
}

CampaignOption = Annotated[
    str | None,
    typer.Option(
        "--campaign", metavar="ID", help="Of this campaign only.", autocompletion=campaign_ids
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@app.callback()
def group() -> None:
    """Events that could not be stored wait here, and keep I5 red until they are settled."""


@app.command("list", epilog="Example: flashgrab dead list --campaign spring-618 --json")
def list_(
    campaign: CampaignOption = None,
    settled: Annotated[
        bool, typer.Option("--settled", help="Those that a retry has settled as well.")
    ] = False,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """List dead letters, oldest first: which fact, why it could not be stored, when."""
    _checked(campaign)
    target = find(data).need("postgres_url")

    async def ask(pool: Any) -> tuple[list[Any], int]:
        from flashgrab.ledger import dead

        return await dead.find(pool, campaign, settled=settled), await dead.waiting(pool, campaign)

    found, waiting = _in_ledger(target, ask)
    from flashgrab.cli import tables

    shown = [_shown(letter) for letter in found]
    if json:
        tables.print_json({"waiting": waiting, "dead": shown})
        return
    tables.print_dead_letters(shown)
    if waiting > len(found):
        typer.echo(f"and {waiting - len(found)} more that wait")


@app.command(
    epilog="Examples: flashgrab dead retry --all · flashgrab dead retry --all --campaign spring-618"
)
def retry(
    letters: Annotated[
        list[str] | None, typer.Argument(metavar="[SEQ|ID]...", help="Seqs, or ids of `list`.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    campaign: CampaignOption = None,
    repaired: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON of the event to read in the letter's place."
        ),
    ] = None,
    json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Try dead letters again, by all the checks that an event passes when it comes.

    What the ledger takes now (its campaign has become known, a newer release reads it, it was
    repaired) is stored and I5 is green again; a conflict stays one. Exit 1 where any stays.
    """
    _checked(campaign)
    if bool(letters) == all_:
        fail("expected either seqs (or ids) of letters, or --all")
    value = _read(repaired) if repaired else None
    if value is not None and (all_ or len(letters or ()) != 1):
        fail("--repaired: expected exactly one letter beside it")
    target = find(data).need("postgres_url")
    url = without_password(target.postgres_url)
    print(f"target: {target.name}, ledger {url}", file=sys.stderr)

    async def do(pool: Any) -> list[Any]:
        found = await _named(pool, letters or [], campaign) if letters else None
        if value is not None and found is not None and len(found) != 1:
            fail(f"{letters[0] if letters else ''} names {len(found)} letters: give the id of one")
        return await _retry(pool, found, campaign, value)

    tried = _in_ledger(target, do)
    staying = sum(one.outcome == "REFUSED" for one in tried)
    if json:
        from flashgrab.cli import tables

        shown = [{**_shown(one.dead), "outcome": one.outcome} for one in tried]
        tables.print_json({"ok": not staying, "staying": staying, "letters": shown})
    else:
        for one in tried:
            why = f": {_reason(one.dead)}" if one.outcome == "REFUSED" else ""
            typer.echo(f"{_name(one.dead)} {WORDS[one.outcome]}{why}")
        typer.echo(f"{len(tried) - staying} settled, {staying} stay")
    raise typer.Exit(1 if staying else 0)


async def _named(pool: Any, letters: Sequence[str], campaign: str | None) -> list[Any]:
    """The letters that were asked for; each name must be somebody's, in one campaign."""
    from flashgrab.ledger import dead

    found: dict[bytes, Any] = {}
    for name in letters:
        seqs = [int(name)] if _is_seq(name) else []
        ids = [name.lower()] if _is_id(name) else []
        if not seqs and not ids:
            fail(f"{name!r} is neither a seq nor an id of `flashgrab dead list`")
        some = await dead.find(pool, campaign, settled=True, seqs=seqs, ids=ids)
        if not some:
            fail(f"there is no dead letter {name}: see `flashgrab dead list`")
        campaigns = {one.letter.campaign_id or "" for one in some}
        if len(campaigns) > 1:
            fail(f"{name} is in {', '.join(sorted(campaigns))}: add --campaign ID")
        found |= {one.digest: one for one in some}
    return list(found.values())


async def _retry(
    pool: Any, found: Sequence[Any] | None, campaign: str | None, value: bytes | None
) -> list[Any]:
    """These, or all that wait; a bounded number in a transaction."""
    from flashgrab.ledger import dead
    from worker.retry import retry as try_again

    clock, tried = SystemClock(), []
    if found is None:
        found = await dead.find(pool, campaign, most=await dead.waiting(pool, campaign))
    for at in range(0, len(found), dead.RETRIED_MAX):
        digests = [one.digest for one in found[at : at + dead.RETRIED_MAX]]
        tried += await try_again(pool, digests, clock.now_ms(), value)
    return tried


def _in_ledger(target: Target, do: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
    """Something on a pool of connections; exit 2 where there is no ledger."""
    from flashgrab.errors import LedgerUnavailable
    from flashgrab.ledger.migrate import schema_is_ours
    from flashgrab.ledger.pool import Pool

    async def run() -> Any:
        pool = Pool(target.postgres_url, 2)
        try:
            if not await schema_is_ours(pool):
                fail("the ledger is empty: no centre has prepared it yet")
            return await do(pool)
        finally:
            await pool.close()

    try:
        return asyncio.run(run())
    except LedgerUnavailable as error:
        unreachable("the ledger", target.postgres_url, error)


def _read(path: Path) -> bytes:
    value = path.read_bytes()
    if len(value) > REPAIRED_BYTES_MAX:
        fail(f"{path}: expected one event of at most {REPAIRED_BYTES_MAX} bytes")
    return value.strip()


def _checked(campaign: str | None) -> None:
    if campaign is not None and not is_campaign_id(campaign):
        fail(f"{campaign!r} is not a campaign id")


def _is_seq(name: str) -> bool:
    return name.isascii() and name.isdigit() and len(name) <= SEQ_DIGITS_MAX


def _is_id(name: str) -> bool:
    return len(name) >= ID_DIGITS_MIN and set(name.lower()) <= set("0123456789abcdef")


def _shown(dead: Any) -> dict[str, Any]:
    letter = dead.letter
    return {
        "id": dead.letter_id,
        "campaign_id": letter.campaign_id,
        "seq": letter.seq,
        "reason": letter.reason,
        "detail": letter.detail,
        "at": to_rfc3339(dead.at_ms),
        "published": dead.published_ms is not None,
        "settled_at": to_rfc3339(dead.retried_ms) if dead.retried_ms is not None else None,
        "key": letter.key.decode(errors="backslashreplace"),
        "value": letter.value[:VALUE_SHOWN].decode(errors="backslashreplace"),
        "value_bytes": len(letter.value),
    }


def _name(dead: Any) -> str:
    letter = dead.letter
    place = f" seq {letter.seq}" if letter.seq is not None else ""
    return f"{dead.letter_id} {letter.campaign_id or 'no campaign'}{place}"


def _reason(dead: Any) -> str:
    return f"{dead.letter.reason}, {dead.letter.detail}"
