"""`flashgrab audit`: do the books balance? Recounts everything (contract §4)."""

import asyncio
import re
from typing import Annotated, Any

import typer

from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, Target, find, unreachable
from flashgrab.ids import is_campaign_id

app = typer.Typer(rich_markup_mode=None)

KAFKA_MS = 2000
"""The audit waits no longer for Kafka: it only says how far the ledger has read."""
_UNIT_MS = {"ms": 1, "s": 1000, "m": 60_000}


@app.command(epilog="Examples: flashgrab audit --drain 30s --json · flashgrab audit --explain")
def audit(
    campaign: Annotated[
        str | None, typer.Option(help="Only this campaign.", autocompletion=campaign_ids)
    ] = None,
    drain: Annotated[
        str, typer.Option(help="Wait up to so long for the ledger to catch up: 30s, 500ms, 2m.")
    ] = "0s",
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="What each damage that was found means and what to do; else of all."
        ),
    ] = False,
    data: DataOption = None,
) -> None:
    """Check I1-I6 over Redis, outbox and ledger, now. Exit 1 if any fails.

    What it calls wrong stands in two readings. With --explain: what it means and what to do.
    """
    from flashgrab.errors import LedgerUnavailable, StoreRefused, StoreUnavailable
    from worker.audit import NotCaughtUp

    if campaign is not None and not is_campaign_id(campaign):
        fail(f"{campaign!r} is not a campaign id")
    drain_ms = _duration_ms(drain)
    target = find(data).need("redis_url", "postgres_url")
    try:
        report = asyncio.run(_run(target, campaign, drain_ms))
    except LedgerUnavailable as error:
        unreachable("the ledger", target.postgres_url, error)
    except (StoreUnavailable, StoreRefused) as error:
        unreachable("Redis", target.redis_url, error)
    except NotCaughtUp as error:
        fail(str(error))
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json(report.as_json() | (_explained(report) if explain else {}))
    else:
        _print(report, explain)
    raise typer.Exit(0 if report.ok else 1)


async def _run(target: Target, campaign: str | None, drain_ms: int) -> Any:
    from flashgrab import keys
    from flashgrab.broker import TopicLog
    from flashgrab.clock import SystemClock
    from flashgrab.ledger.migrate import schema_is_ours
    from flashgrab.ledger.pool import Pool
    from flashgrab.store import Store
    from worker.audit import Audit

    pool = Pool(target.postgres_url, 2)
    topic_log = None
    if target.kafka_bootstrap:
        topic_log = TopicLog(target.kafka_bootstrap, keys.GRABS_TOPIC, deadline_ms=KAFKA_MS)
    try:
        async with Store(target.redis_url) as store:
            if not await schema_is_ours(pool):
                fail("the ledger is empty: no centre has prepared it yet")
            return await Audit(pool, store, SystemClock(), topic_log).run(campaign, drain_ms)
    finally:
        if topic_log is not None:
            await topic_log.stop()
        await pool.close()


def _duration_ms(text: str) -> int:
    match = re.fullmatch(r"([0-9]{1,6})(ms|s|m)", text, re.ASCII)
    if match is None:
        fail(f"--drain {text!r}: expected a time such as 30s, 500ms or 2m")
    return int(match[1]) * _UNIT_MS[match[2]]


def _explained(report: Any) -> dict[str, Any]:
    """All kinds of damage, those that were found marked."""
    from worker.damage import Damage
    from worker.remedies import explained

    found = report.damages
    return {"explained": [explained(d) | {"found": d in found} for d in Damage]}


def _print(report: Any, explain: bool) -> None:
    """The table, and below it what is wrong and what that means."""
    import sys

    from rich.console import Console
    from rich.table import Table

    from worker.damage import INVARIANTS

    console = Console(
        width=None if sys.stdout.isatty() else 200, markup=False, emoji=False, highlight=False
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("campaign", no_wrap=True)
    numbers = ("quota", "left", "granted", "returned", "persisted", "watermark", "outbox")
    for name in numbers:
        table.add_column(name, justify="right")
    for name in INVARIANTS:
        table.add_column(name, justify="center")
    for c in report.campaigns:
        verdicts = ("ok" if c.invariants[name] else "WRONG" for name in INVARIANTS)
        table.add_row(c.campaign_id, *(str(getattr(c, name)) for name in numbers), *verdicts)
    console.print(table if report.campaigns else "no campaign was published yet")
    for c in report.campaigns:
        _print_findings(console, c.campaign_id, c.findings)
    _print_findings(console, "all", report.findings)
    if report.kafka is not None:
        console.print(f"records in Kafka that the ledger has not read: {report.kafka}")
    console.print("the books balance" if report.ok else "the books do NOT balance")
    if explain:
        _print_explained(console, report)


def _print_explained(console: Any, report: Any) -> None:
    explained = _explained(report)["explained"]
    for one in [e for e in explained if e["found"]] or explained:
        console.print(f"\n{one['damage']} ({one['invariant']})")
        for name, word in (("means", "means"), ("do", "do"), ("runbook", "more")):
            console.print(f"  {word}: {one[name]}", soft_wrap=True)


SHOWN = 10
"""Findings of one kind that a terminal is shown; JSON has more."""


def _print_findings(console: Any, where: str, findings: list[Any]) -> None:
    by_damage: dict[Any, list[Any]] = {}
    for finding in findings:
        by_damage.setdefault(finding.damage, []).append(finding)
    for damage, some in by_damage.items():
        meaning = damage.value
        console.print(f"{where}: {damage.name} ({meaning.invariant}): {meaning.words}")
        for finding in some[:SHOWN]:
            detail = f": {finding.detail}" if finding.detail else ""
            console.print(f"    {finding.subject}{detail}")
        if len(some) > SHOWN:
            console.print(f"    and {len(some) - SHOWN} more")
