"""From one command to one grab in the ledger, over the outside alone."""

import json
from collections.abc import Callable
from functools import partial
from urllib.parse import urlsplit

import httpx2
import pytest

from tests.e2e.buyers import Buyer
from tests.e2e.running import Stack, simple, until

pytestmark = [pytest.mark.xdist_group("stack")]


def _is(read: Callable[[], str | None], wanted: str) -> bool:
    return read() == wanted


def _has_line(url: str, start: str) -> bool:
    return any(line.startswith(start) for line in httpx2.get(url).text.splitlines())


def test_a_grab_reaches_the_ledger(running_stack: Stack) -> None:
    """Login, pass, grab, repeat; the grab becomes PERSISTED, and the books balance."""
    campaign_id = running_stack.campaign(simple("first-grab", quota=1))
    alice, bob = (Buyer.enter(running_stack, campaign_id, user) for user in ("alice", "bob"))
    granted = alice.grab("once")
    assert granted.status_code == 201, granted.text
    grab_id = granted.json()["grab_id"]
    again = alice.grab("once")
    assert (again.status_code, again.json()["grab_id"]) == (200, grab_id)
    assert bob.grab().json()["code"] == "SOLD_OUT"
    until("the grab is in the ledger", lambda: alice.state(grab_id) == "PERSISTED")
    assert bob.state(grab_id) is None
    verdict = running_stack.audit("--campaign", campaign_id)
    assert verdict["ok"]
    (books,) = verdict["campaigns"]
    assert {k: books[k] for k in ("quota", "left", "granted", "persisted", "outbox")} == {
        "quota": 1,
        "left": 0,
        "granted": 1,
        "persisted": 1,
        "outbox": 0,
    }
    assert books["invariants"] == {f"I{n}": True for n in range(1, 7)}


def test_the_whole_life_of_a_campaign_on_the_command_line(running_stack: Stack) -> None:
    """Create, publish, pause, resume, restock (once for one id), close: each shows outside."""
    campaign_id = running_stack.campaign(simple("cli-life", quota=1))

    def status() -> str | None:
        return (running_stack.get(f"/v1/campaigns/{campaign_id}") or {}).get("status")

    assert status() == "CLAIMABLE"
    for verb, expected in (("pause", "PAUSED"), ("resume", "CLAIMABLE")):
        done = running_stack.command("campaign", verb, campaign_id)
        assert done.returncode == 0, done.stderr
        until(f"{verb} shows", partial(_is, status, expected), 2)
    for _ in range(2):
        done = running_stack.command(
            "campaign", "restock", campaign_id, "--round", "1", "--add", "4", "--operation", "op-1"
        )
        assert done.returncode == 0, done.stderr
    shown = json.loads(running_stack.command("campaign", "show", campaign_id, "--json").stdout)
    assert shown["rounds"][0]["quota"] == 5
    assert running_stack.command("campaign", "close", campaign_id).returncode == 0
    until("it is closed", lambda: status() == "OFFLINE", 2)
    assert running_stack.audit("--campaign", campaign_id)["ok"]


def test_every_part_tells_its_numbers(running_stack: Stack) -> None:
    """Each part has /metrics on loopback, listed in run.json, with names of contract §6."""
    expected = {
        "gateway": "flashgrab_grabs_total",
        "relay": "flashgrab_relay_lag_seconds",
        "worker": "flashgrab_invariant_ok",
    }
    campaign_id = running_stack.campaign(simple("numbers", quota=5))
    assert Buyer.enter(running_stack, campaign_id, "alice").grab().status_code == 201
    for part, name in expected.items():
        metrics = running_stack.run_json()[part][0]["metrics"]
        until(
            f"{name} at {part}",
            partial(_has_line, metrics, name),
        )
    worker = running_stack.run_json()["worker"][0]["metrics"]
    line = f'flashgrab_invariant_ok{{campaign="{campaign_id}",invariant="I5"}} 1.0'
    until("the live audit says I5 is kept", partial(_has_line, worker, line))


def test_secrets_are_kept_to_themselves(running_stack: Stack) -> None:
    """run.json and the logs hold no password; secrets.env is for its owner only."""
    secrets = {_bare(value) for value in running_stack.secrets().values()} - {""}
    assert len(secrets) >= 5
    assert (running_stack.data / "secrets.env").stat().st_mode & 0o777 == 0o600
    shown = (running_stack.data / "run.json").read_text()
    shown += "".join(p.read_text() for p in (running_stack.data / "logs").glob("*.log"))
    assert [secret for secret in secrets if secret in shown] == []


def _bare(value: str) -> str:
    """The secret in a value of secrets.env: an URL's password, a key without its kid."""
    if "://" in value:
        return urlsplit(value).password or ""
    return value.rpartition(":")[2]
