"""One rehearsal from its sales to its findings: passes, opening, crowd, tallies, audit."""

import asyncio
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flashgrab.cli.campaigns import Centre, Refused, new_operation
from flashgrab.cli.failure import fail
from flashgrab.cli.rehearsal import books, households, progress, report, tickets, verdict
from flashgrab.cli.rehearsal.connection import Address
from flashgrab.cli.rehearsal.crowd import Answered, Crowd
from flashgrab.cli.rehearsal.opening import Gateway
from flashgrab.cli.rehearsal.sale import Names, Sale, asks, run_name
from flashgrab.cli.rehearsal.tally import Tally
from flashgrab.cli.target import Target
from flashgrab.model import parse

OPENS_IN_S = 4.0
PUBLISH_S = 0.15
"""From the first campaign to the common opening: so long, and so much more for each campaign."""
SETTLE_S = 1.5
"""From the last publish to the first request: every gateway process knows the campaigns then."""
AFTER_OPENING_S = 0.05
"""So that an estimate of the server's clock that is off does not send the first grabs too early."""
OPEN_S = 3600.0
WAIT_S_MAX = 600.0
"""How long a rehearsal waits for the opening of a campaign."""

LEFT_IS_NEW_S = 1.5
"""After which the public `left` has what was granted before; the contract says 1 s."""

WITH_DUPLICATES = ("a", "a", "b")
WITH_REPEAT = ("a", "a")


@dataclass(frozen=True, slots=True)
class How:
    """How a crowd is sent: connections at once, first requests a second (None: unbounded); and the
    p99 that is demanded, in ms (None: none is)."""

    connections: int
    pace: float | None
    audit: bool
    p99_max_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Findings:
    """What a rehearsal found; `books` is None where no audit was asked for. `cpu_percent` is what
    the crowd itself used, of one core."""

    run: str
    tallies: Sequence[Tally]
    books: Any
    p99_max_ms: float | None = None
    cpu_percent: float = 0.0

    @property
    def thresholds(self) -> list[verdict.Threshold]:
        return verdict.thresholds(self.tallies, self.books, self.p99_max_ms)

    @property
    def ok(self) -> bool:
        return all(threshold.ok is not False for threshold in self.thresholds)

    def as_json(self) -> dict[str, Any]:
        """Plain data; `audit` has the shape of `flashgrab audit --json`."""
        return {
            "ok": self.ok,
            "run": self.run,
            "seconds": round(report.span(self.tallies), 3),
            "p99_ms": verdict.p99_ms(self.tallies),
            "cpu_percent": round(self.cpu_percent, 1),
            "thresholds": [threshold.as_json() for threshold in self.thresholds],
            "campaigns": [report.as_json(tally) for tally in self.tallies],
            "audit": None if self.books is None else self.books.as_json(),
        }


async def of_households(
    target: Target, mailings: Sequence[households.Mailing], share: int, how: How
) -> Findings:
    """Publish a campaign for each mailing with one common opening, then send the households."""
    run = run_name(time.time_ns() // 1_000_000)
    sales = [
        Sale(
            f"{run}-c{mailing.number}",
            mailing.name,
            mailing.households,
            households.quota(len(mailing.households), share),
            WITH_DUPLICATES,
        )
        for mailing in mailings
    ]
    gateway = Gateway(target.gateway_url)
    try:
        offset_ms = await gateway.offset_ms()
        lead_s = OPENS_IN_S + PUBLISH_S * len(sales)
        opens_s = time.monotonic() + lead_s
        opens_at_ms = time.time_ns() // 1_000_000 + offset_ms + int(lead_s * 1000)
        seconds = OPEN_S + (2 * _asked(sales) / how.pace if how.pace else 0)
        closes_at_ms = opens_at_ms + int(seconds * 1000)
        progress.say(f"run {run}: {len(sales)} campaigns, {_asked(sales):,} requests")
        await asyncio.to_thread(_publish, target, mailings, sales, opens_at_ms, closes_at_ms)
        await gateway.shows(sale.campaign_id for sale in sales)
        settled_s = time.monotonic() + SETTLE_S
    finally:
        await gateway.close()
    return await _send(target, sales, run, how, max(opens_s, settled_s))


async def of_campaign(target: Target, campaign_id: str, buyers: int, how: How) -> Findings:
    """Send new buyers to a campaign that is there, when it opens."""
    run = run_name(time.time_ns() // 1_000_000)
    gateway = Gateway(target.gateway_url)
    try:
        opening = await gateway.opening(campaign_id)
        if opening.opens_in_s > WAIT_S_MAX:
            fail(
                f"campaign {campaign_id} opens in {opening.opens_in_s:,.0f} s;"
                f" a rehearsal waits at most {WAIT_S_MAX:.0f} s"
            )
        if opening.opens_in_s > 0:
            progress.say(f"run {run}: {campaign_id} opens in {opening.opens_in_s:.1f} s")
            await asyncio.sleep(opening.opens_in_s)
            opening = await gateway.opening(campaign_id)
    finally:
        await gateway.close()
    crowd = Names(f"{run}-", buyers)
    sale = Sale(campaign_id, opening.name, crowd, opening.left, WITH_REPEAT, opening.round)
    if how.pace and sale.asked / how.pace > opening.closes_in_s:
        fail(
            f"{sale.asked:,} requests at {how.pace:g} a second do not fit into round"
            f" {opening.round}, which closes in {opening.closes_in_s:,.0f} s"
        )
    return await _send(target, [sale], run, how, time.monotonic())


def _publish(
    target: Target,
    mailings: Sequence[households.Mailing],
    sales: Sequence[Sale],
    opens_at_ms: int,
    closes_at_ms: int,
) -> None:
    with Centre(target.centre_url, target.admin_token) as centre:
        for mailing, sale in zip(mailings, sales, strict=True):
            raw = households.definition(
                mailing,
                sale.campaign_id,
                quota=sale.quota,
                opens_at_ms=opens_at_ms,
                closes_at_ms=closes_at_ms,
            )
            try:
                centre.create(parse(raw, sale.campaign_id), new_operation())
                done = centre.change(sale.campaign_id, "publish", new_operation())
            except Refused as refused:
                fail(f"{sale.campaign_id}: {refused}")
            if not done.get("applied", True):
                progress.say(f"{sale.campaign_id}: not in Redis yet: {done.get('trouble')}")


async def _send(target: Target, sales: Sequence[Sale], run: str, how: How, at_s: float) -> Findings:
    try:
        address = Address.of(target.gateway_url)
    except ValueError as error:
        fail(f"the gateway's address: {error}")
    pass_of = await _passes(target, address, sales, how)
    crowd = Crowd(address, pass_of, connections=how.connections, pace=how.pace)
    tallies = {sale.campaign_id: Tally(sale) for sale in sales}

    def take(answer: Answered) -> None:
        tallies[answer.ask.campaign_id].take(answer)

    def state() -> tuple[int, int]:
        found = tallies.values()
        return sum(t.answered for t in found), sum(t.granted for t in found)

    await asyncio.sleep(max(at_s + AFTER_OPENING_S - time.monotonic(), 0))
    began_s, used_s = time.monotonic(), time.process_time()
    async with progress.shown(_asked(sales), state):
        await crowd.send(asks(sales, run, random.Random(run)), take)
    seconds = max(time.monotonic() - began_s, 0.001)
    cpu_percent = (time.process_time() - used_s) / seconds * 100
    for tally in tallies.values():
        await _look_for_others(target, tally)
        tally.close()
    audited = None
    if how.audit:
        progress.say("waiting for the ledger, then recounting the books")
        audited = await books.audit(target, list(tallies))
    return Findings(run, list(tallies.values()), audited, how.p99_max_ms, cpu_percent)


async def _look_for_others(target: Target, tally: Tally) -> None:
    """Whoever presses the button of the buyer's page meanwhile is no fault of the sale."""
    if tally.sale.round is None or tally.granted >= tally.expected:
        return
    await asyncio.sleep(LEFT_IS_NEW_S)
    gateway = Gateway(target.gateway_url)
    try:
        left = await gateway.left(tally.sale.campaign_id, tally.sale.round)
    finally:
        await gateway.close()
    if left is not None:
        tally.went_to_others(left)


async def _passes(
    target: Target, address: Address, sales: Sequence[Sale], how: How
) -> tickets.PassOf:
    if target.pass_keys:
        return tickets.sign_here(target.pass_keys)

    def wanted() -> Iterator[tuple[str, str]]:
        for sale in sales:
            for buyer in sale.buyers:
                yield sale.campaign_id, buyer

    progress.say("asking the gateway for passes")
    return await tickets.fetch(address, wanted(), connections=how.connections)


def _asked(sales: Sequence[Sale]) -> int:
    return sum(sale.asked for sale in sales)
