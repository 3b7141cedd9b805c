"""Parts killed in the middle of a sale: nothing lost, nothing twice."""

import json
from functools import partial
from pathlib import Path

import pytest

from tests.e2e.running import Stack, simple, stack, until

pytestmark = [pytest.mark.xdist_group("kills")]

BUYERS, QUOTA, PACE = 3000, 2600, 250
TOGETHER = (("relay", "worker", "centre"), ("kafka", "postgres"), ("valkey",), ("gateway",))
"""Each part once; which of them die at the same moment."""


def test_every_part_killed_in_the_middle_of_a_sale(data: Path) -> None:
    """kill -9 of each part while buyers grab: all are answered, the books balance."""
    with stack(data, "--demo") as running:
        campaign_id = running.campaign(simple("kills", quota=QUOTA, opens="+1s"))
        crowd = running.begin(
            *("rehearse", "--campaign", campaign_id, "--buyers", str(BUYERS)),
            *("--pace", str(PACE), "--json"),
        )
        for parts in TOGETHER:
            before = until("the sale goes on", partial(_granted, running, campaign_id))
            until("grants go on", partial(_more_than, running, campaign_id, before), 20)
            for part, old in [(part, running.kill(part)) for part in parts]:
                running.back(part, old)
        left = QUOTA - until("the gateway answers", partial(_granted, running, campaign_id))
        assert left > 0, "the sale ended before the last kill: it showed nothing"
        out, err = crowd.communicate(timeout=120)
        assert crowd.returncode == 0, err + out
        verdict = running.audit("--campaign", campaign_id)
        assert verdict["ok"], json.dumps(verdict, indent=1)
        (books,) = verdict["campaigns"]
        assert (books["granted"], books["persisted"], books["left"]) == (QUOTA, QUOTA, 0)
        assert running.stop() == 0


def _granted(running: Stack, campaign_id: str) -> int | None:
    """How many the public state says are granted; None where none is, or no gateway answers."""
    body = running.get(f"/v1/campaigns/{campaign_id}")
    return None if body is None else QUOTA - int(body["rounds"][0]["left"]) or None


def _more_than(running: Stack, campaign_id: str, before: int) -> bool:
    return (_granted(running, campaign_id) or 0) > before


def test_a_kill_of_up_itself_leaves_nothing_running(data: Path) -> None:
    """After kill -9 of `up` nothing runs on, and the next `up` has every grant."""
    first = Stack(data, "--demo").start()
    campaign_id = first.campaign(simple("outlives-up", quota=50))
    crowd = first.command("rehearse", "--campaign", campaign_id, "--buyers", "80")
    assert crowd.returncode == 0, crowd.stderr
    left_behind = first.children()
    assert left_behind
    assert first.process is not None
    first.process.kill()
    first.process.wait()
    first.end()
    until(
        "all ended", lambda: not any(p.is_running() and p.status() != "zombie" for p in left_behind)
    )
    with stack(data, "--demo") as second:
        verdict = second.audit("--campaign", campaign_id)
        assert verdict["ok"]
        assert verdict["campaigns"][0]["granted"] == 50
        assert second.stop() == 0
