"""Parts killed in the middle of a sale: nothing lost, nothing twice."""

import json
from pathlib import Path

import pytest

from tests.e2e.running import Stack, simple, stack, until

pytestmark = [pytest.mark.xdist_group("kills"), pytest.mark.timeout(180)]

BUYERS, QUOTA, PACE = 900, 500, 300


def _sale_with_a_kill(running: Stack, part: str) -> None:
    campaign_id = running.campaign(simple(f"kill-{part}", quota=QUOTA, opens="+1s"))
    crowd = running.begin(
        *("rehearse", "--campaign", campaign_id, "--buyers", str(BUYERS), "--pace", str(PACE)),
        "--json",
    )

    def granted() -> int:
        body = running.get(f"/v1/campaigns/{campaign_id}") or {"rounds": [{"left": QUOTA}]}
        return QUOTA - int(body["rounds"][0]["left"])

    until("the sale is in full course", lambda: granted() > 50)
    old = running.kill(part)
    assert granted() < QUOTA, "the kill came too late to show anything"
    running.back(part, old)
    out, err = crowd.communicate(timeout=120)
    assert crowd.returncode == 0, err + out
    verdict = running.audit("--campaign", campaign_id)
    assert verdict["ok"], json.dumps(verdict, indent=1)
    (books,) = verdict["campaigns"]
    assert (books["granted"], books["persisted"], books["left"]) == (QUOTA, QUOTA, 0)


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def] # a generator fixture
    with stack(tmp_path_factory.mktemp("kills") / "data", "--demo") as running:
        yield running


@pytest.mark.parametrize(
    "part", ["gateway", "relay", "worker", "centre", "valkey", "kafka", "postgres"]
)
def test_a_kill_in_the_middle_of_a_sale_costs_nothing(embedded: Stack, part: str) -> None:
    """kill -9 of the part while buyers grab: every buyer gets his answer, the books balance."""
    _sale_with_a_kill(embedded, part)


def test_a_kill_of_up_itself_leaves_nothing_running(tmp_path: Path) -> None:
    """After kill -9 of `up` nothing runs on, and the next `up` has every grant."""
    data = tmp_path / "data"
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
