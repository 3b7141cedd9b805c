"""Valkey restarted, and Valkey with older data than it had."""

import shutil
from pathlib import Path

import pytest

from tests.e2e.buyers import Buyer
from tests.e2e.running import simple, stack, until

pytestmark = [pytest.mark.xdist_group("restarts"), pytest.mark.timeout(180)]


def _persisted(buyer: Buyer, key: str) -> str:
    """Grab, and wait until the ledger has it."""
    granted = buyer.grab(key)
    assert granted.status_code == 201, granted.text
    grab_id = str(granted.json()["grab_id"])
    until("it is in the ledger", lambda: buyer.state(grab_id) == "PERSISTED")
    return grab_id


def test_older_data_in_place_of_valkeys_are_refused(data: Path) -> None:
    """After a restart with its own data a key replays; with a stale copy every grab is refused."""
    stale = data.parent / "stale"
    with stack(data, "--demo") as first:
        campaign_id = first.campaign(simple("stale", quota=10))
        alice = Buyer.enter(first, campaign_id, "alice")
        grab_id = _persisted(alice, "a")
        shutil.copytree(data / "valkey", stale)

        old = first.kill("valkey")
        first.back("valkey", old)
        again = until("alice's key replays", lambda: _replayed(alice), 10)
        assert again == grab_id

        _persisted(Buyer.enter(first, campaign_id, "bob"), "b")
        assert first.stop() == 0
    shutil.rmtree(data / "valkey")
    shutil.move(stale, data / "valkey")
    with stack(data, "--demo") as second:
        said = (data / "logs" / "worker.log").read_text
        until("the worker says why", lambda: "knows less than was acknowledged" in said())
        carol = Buyer.enter(second, campaign_id, "carol")
        refused = carol.grab("c")
        assert (refused.status_code, refused.json()["code"]) == (503, "NOT_WARMED")
        assert refused.headers["retry-after"]
        done = second.command("audit", "--campaign", campaign_id)
        assert done.returncode == 1, done.stdout + done.stderr
        assert second.stop() == 0


def _replayed(buyer: Buyer) -> str | None:
    response = buyer.grab("a")
    return str(response.json()["grab_id"]) if response.status_code == 200 else None
