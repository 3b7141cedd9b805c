"""`flashgrab restore`: the ledger as a backup has it, then every campaign rebuilt (contract §4)."""

import asyncio
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli import campaigns
from flashgrab.cli.backup import Tell, say_target
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, Target, find, unreachable

app = typer.Typer(rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Done:
    """What a restore did. `begun`: rebuilds, campaign to operation; `taken_off`: campaigns that
    Redis had and the backup has not."""

    rows: Mapping[str, int]
    begun: Mapping[str, str]
    taken_off: tuple[str, ...]


@app.command(epilog="Example: flashgrab restore friday.backup --replace")
def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `backup` wrote.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Throw away the ledger that is there.")
    ] = False,
    within: Annotated[
        float, typer.Option(min=0, help="Wait so long (s) for the end of each rebuild.")
    ] = 120,
    without_kafka: Annotated[
        bool,
        typer.Option("--without-kafka", help="Kafka is gone for good: give up what only it has."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="What was done, as JSON.")] = False,
    data: DataOption = None,
) -> None:
    """Make the ledger what FILE says, all of it or nothing, and rebuild every campaign.

    Keep it running: gateways refuse until the rebuild is over, and then go on by themselves.
    Exit 1: restored, but a campaign is not rebuilt yet; it stays closed until it is.
    """
    from flashgrab.errors import FlashgrabError, LedgerUnavailable, StoreRefused, StoreUnavailable
    from flashgrab.ledger.backup import LedgerNotEmpty
    from flashgrab.ledger.backup_file import BackupUnusable, reading
    from flashgrab.ledger.migrate import SchemaNewer
    from flashgrab.ledger.revision import head

    target = find(data).need("postgres_url", "redis_url", "centre_url", "admin_token")
    try:
        with reading(file, head()) as backup:
            backup.check()
            say_target(target.name, target.postgres_url)
            done = asyncio.run(_restore(target, backup, replace, without_kafka))
    except BackupUnusable as error:
        fail(f"{file}: {error}")
    except (LedgerNotEmpty, SchemaNewer) as error:
        fail(str(error))
    except LedgerUnavailable as error:
        unreachable("the ledger", target.postgres_url, error)
    except (StoreUnavailable, StoreRefused) as error:
        unreachable("Redis", target.redis_url, error)
    except FlashgrabError as error:
        fail(str(error))
    rebuilt = _rebuilt(target, done, within, without_kafka)
    _say(done, rebuilt, as_json)
    raise typer.Exit(0 if all(row["rebuilt"] for row in rebuilt) else 1)


async def _restore(target: Target, backup: Any, replace: bool, without_kafka: bool) -> Done:
    from flashgrab.clock import SystemClock
    from flashgrab.ledger.backup import restore as write
    from flashgrab.store import Store

    async with Store(target.redis_url) as store:
        registered = await store.registry()
        epochs = {campaign_id: await store.epoch(campaign_id) for campaign_id in registered}
        restored = await write(
            target.postgres_url,
            backup,
            SystemClock(),
            Tell("restored"),
            replace=replace,
            without_kafka=without_kafka,
            epochs=epochs,
        )
        # what the ledger does not know, nobody could account for
        unknown = sorted(registered - restored.campaigns)
        for campaign_id in unknown:
            await store.forget(campaign_id)
    rows = {table.name: table.rows for table in backup.manifest.tables}
    return Done(rows, restored.rebuilds, tuple(unknown))


def _rebuilt(
    target: Target, done: Done, within_s: float, without_kafka: bool
) -> list[dict[str, Any]]:
    """Wait for the rebuilds that have begun; the centre goes on with them also without us."""
    rows = []
    with campaigns.Centre(target.centre_url, target.admin_token) as centre:
        for campaign_id, operation in done.begun.items():
            row: dict[str, Any] = {"campaign_id": campaign_id, "rebuilt": False}
            try:
                told = campaigns.rebuild(
                    centre, campaign_id, operation, within_s=within_s, without_kafka=without_kafka
                )
                row |= {"rebuilt": told["applied"]} | (told.get("rebuild") or {})
                row |= {} if told["applied"] else {"why": told["trouble"]}
            except campaigns.Refused as refused:
                row["why"] = str(refused)
            rows.append(row)
    return rows


def _say(done: Done, rebuilt: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        from flashgrab.cli.tables import print_json

        taken_off = list(done.taken_off)
        print_json({"rows": dict(done.rows), "campaigns": rebuilt, "taken_off": taken_off})
        return
    print(f"restored: {done.rows['campaigns']} campaigns, {done.rows['coupons']:,} coupons")
    for campaign_id in done.taken_off:
        print(f"campaign {campaign_id} is not in the backup: taken off")
    for row in rebuilt:
        if row["rebuilt"]:
            print(f"campaign {row['campaign_id']} rebuilt (epoch {row['epoch']})")
        else:
            print(
                f"flashgrab: {row['campaign_id']} is closed: {row['why']};"
                f" flashgrab campaign rebuild {row['campaign_id']}",
                file=sys.stderr,
            )
