"""`flashgrab rehearse`: the sale before the sale (contract §4)."""

from typing import TYPE_CHECKING, Annotated

import typer

from flashgrab.cli.completion import campaign_ids
from flashgrab.cli.failure import fail
from flashgrab.cli.target import DataOption, find, without_password
from flashgrab.ids import is_campaign_id

if TYPE_CHECKING:
    from flashgrab.cli.rehearsal.run import Findings

app = typer.Typer(rich_markup_mode=None)

DATASETS = ("completejourney",)
BUYERS_MAX = 1_000_000


@app.command(
    epilog="Examples: flashgrab rehearse --campaign demo-1 --buyers 1000 --pace 500 --p99 250"
    " · flashgrab rehearse --dataset completejourney --share 60 --campaigns 2"
)
def rehearse(
    dataset: Annotated[
        str | None, typer.Option(help="Households and campaigns of a data set: completejourney.")
    ] = None,
    share: Annotated[
        int,
        typer.Option(min=1, max=1000, help="Quota, in percent of the households sent to."),
    ] = 60,
    campaigns: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many campaigns of the data set.")
    ] = None,
    campaign: Annotated[
        str | None,
        typer.Option(
            metavar="ID", help="A campaign that is there, instead.", autocompletion=campaign_ids
        ),
    ] = None,
    buyers: Annotated[
        int | None, typer.Option(min=1, max=BUYERS_MAX, help="Buyers to send to it.")
    ] = None,
    pace: Annotated[
        float | None, typer.Option(min=0.1, help="New requests a second; without it: all at once.")
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=4096, help="Connections at once.")] = 64,
    p99: Annotated[
        float | None, typer.Option(min=0, metavar="MS", help="Slowest p99 that is good, in ms.")
    ] = None,
    audit: Annotated[bool, typer.Option(help="Recount the books at the end.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="The findings as JSON.")] = False,
    data: DataOption = None,
) -> None:
    """Send a crowd of simulated buyers to the running gateway, then audit the books.

    --dataset publishes the data set's campaigns anew, under ids of this run (r<time>-c<number>),
    with one common opening. Every household that a campaign was sent to grabs once and adds two
    duplicates that race with the grab: one with the same Idempotency-Key (the same coupon,
    replayed, or the same refusal) and one with another key (USER_LIMIT, or SOLD_OUT).

    --campaign sends so many new buyers to a campaign that is there, when it opens; each adds one
    duplicate with the same key. Others may grab there meanwhile: where the campaign is sold out in
    the end, what this crowd did not get went to them, and is said.

    No answer, 429 and 503 are repeated with the same key, after what retry_after_ms says, for at
    most 60 s. Exit 1 unless granted is min(quota, buyers) in every campaign, no buyer has two
    coupons, every duplicate was answered right, the books balance, and --p99 was kept.
    """
    _check(dataset, campaigns, campaign, buyers)
    mailings = None
    if dataset is not None:
        from flashgrab.cli.rehearsal import households

        mailings = households.load()[:campaigns]
    target = find(data).need("gateway_url")
    if mailings is not None:
        target.need("centre_url", "admin_token")
    if audit:
        target.need("redis_url", "postgres_url")

    import uvloop

    from flashgrab.cli.rehearsal import progress, run

    centre = f", centre {without_password(target.centre_url)}" if mailings is not None else ""
    progress.say(f"target: {target.name}, gateway {without_password(target.gateway_url)}{centre}")
    how = run.How(connections, pace, audit, p99)
    if mailings is not None:
        findings = uvloop.run(run.of_households(target, mailings, share, how))
    else:
        assert campaign is not None
        assert buyers is not None
        findings = uvloop.run(run.of_campaign(target, campaign, buyers, how))
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json(findings.as_json())
    else:
        _print(findings)
    raise typer.Exit(0 if findings.ok else 1)


def _check(
    dataset: str | None, campaigns: int | None, campaign: str | None, buyers: int | None
) -> None:
    if (dataset is None) == (campaign is None):
        fail("expected either --dataset completejourney, or --campaign ID with --buyers N")
    if dataset is not None and dataset not in DATASETS:
        fail(f"--dataset {dataset!r}: known is {', '.join(DATASETS)}")
    if dataset is not None and buyers is not None:
        fail("--buyers goes with --campaign: a data set has its own buyers")
    if campaign is not None and buyers is None:
        fail("--campaign needs --buyers N")
    if campaign is not None and campaigns is not None:
        fail("--campaigns goes with --dataset")
    if campaign is not None and not is_campaign_id(campaign):
        fail(f"{campaign!r} is not a campaign id")


def _print(findings: "Findings") -> None:
    from flashgrab.cli.rehearsal import report, verdict

    print(report.table(findings.tallies))
    print()
    for line in report.problem_lines(findings.tallies):
        print(line)
    for line in verdict.lines(findings.thresholds, findings.tallies, findings.cpu_percent):
        print(line)
