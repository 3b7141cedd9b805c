"""Every fault once, a few in each sale: the bounded selection of what `make faults` draws."""

import sys

import pytest

from tests.conftest import require
from tests.faults import schedule, strace
from tests.faults.runner import Plan, play, run_sale
from tests.faults.sale import Sale
from tests.faults.schedule import LINK_MS_MIN, LINKS, TROUBLES, Event
from tests.faults.stack import FaultStack

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("faults")]

EACH_MS, FOR_MS = 1100, 800
SALES = [
    ("kill gateway-1", "kill relay", "kill worker-1", "kill centre"),
    ("kill valkey", "keep kafka away", "kill postgres"),
    ("keep valkey away", "kill gateway-2", "keep relay away", "keep postgres away", "kill kafka"),
    ("freeze gateway-1", "freeze relay", "freeze valkey", "freeze kafka"),
    ("freeze gateway-2", "freeze worker-1", "freeze postgres", "freeze centre"),
    (
        *("lost replies crowd>gateway-1", "resets gateway-1>valkey", "broker wiped"),
        "delay worker>valkey",
    ),
    (
        *("lost replies gateway-2>valkey", "stalled replies relay>valkey"),
        *("stalled requests parts>kafka", "delay worker>postgres", "keep worker-1 away"),
    ),
]
ON_DISKS = [
    ("slow disk of valkey", "EIO postgres", "power cut"),
    ("EIO valkey", "slow disk of postgres", "power cut later"),
    ("ENOSPC valkey",),
]


def test_the_selection_has_every_fault() -> None:
    """Each fault of the catalogue, each link and each trouble of a link."""
    chosen = {fault for faults in (*SALES, *ON_DISKS) for fault in faults}
    if strace.missing() is not None:
        chosen -= {fault for faults in ON_DISKS for fault in faults}
    known = set(schedule.catalogue())
    assert chosen <= known
    assert {fault for fault in known if ">" not in fault} <= chosen
    on_links = {fault for fault in chosen if ">" in fault}
    assert {fault.rpartition(" ")[2] for fault in on_links} == set(LINKS)
    assert {fault.rpartition(" ")[0] for fault in on_links} == set(TROUBLES)


@pytest.mark.parametrize("faults", SALES, ids=" + ".join)
async def test_a_sale_gets_over_them(stack: FaultStack, faults: tuple[str, ...]) -> None:
    """Every fault is reached; afterwards nothing is lost, doubled, oversold or told wrongly."""
    await _sell(stack, faults)


@pytest.mark.parametrize("faults", ON_DISKS, ids=" + ".join)
async def test_a_sale_gets_over_its_disks(stack: FaultStack, faults: tuple[str, ...]) -> None:
    """The same for disks that are slow or fail, and for power cuts."""
    require(strace.missing())
    await _sell(stack, faults)


async def _sell(stack: FaultStack, faults: tuple[str, ...]) -> None:
    events = [
        Event(fault, 300 + EACH_MS * n, LINK_MS_MIN + 300 if ">" in fault else FOR_MS)
        for n, fault in enumerate(faults)
    ]
    span_ms = 300 + EACH_MS * len(events)

    async def script(live: Sale) -> None:
        await play(live, events, schedule.catalogue(), seed=1)

    plan = Plan(
        quota=60, asks=span_ms, users=1500, restocks=6, add=60, span_ms=span_ms, per_s=1000,
        per_user=2, per_device=3, devices=400, returns=2 * len(events),
    )  # fmt: skip
    try:
        run = await run_sale(stack, len(faults), plan, script)
        assert run.violations == []
        assert run.audit == []
    except BaseException:
        print(stack.logs(), file=sys.stderr)
        raise
    assert len(run.history.acknowledged()) > plan.quota  # it went on beyond the first part
    assert any(one.done for one in run.history.returns)
    assert run.history.samples
