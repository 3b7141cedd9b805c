"""`flashgrab backup` and `restore` on whole stacks: the books balance, old keys replay, and no
serial has two owners; back into the stack it came from, and into a new one after the loss of all.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.stack_process import data_folder
from tests.e2e.buyers import Buyer
from tests.e2e.running import COMMAND, Stack, simple, stack, until

pytestmark = [pytest.mark.xdist_group("restarts")]

ONE_SHOP = {"FLASHGRAB_PASS_KEYS": f"k1:{'5' * 64}"}
"""Both stacks know the same passes, as machines of one shop do."""


@pytest.fixture
def first(data: Path) -> Iterator[Stack]:
    with stack(data, "--demo", environment=ONE_SHOP) as running:
        yield running


def winners(running: Stack, campaign_id: str, names: range) -> dict[str, tuple[Buyer, str]]:
    """Buyers with a grab each; name → (buyer, grab id), persisted."""
    won = {}
    for name in names:
        buyer = Buyer.enter(running, campaign_id, f"u{name}")
        granted = buyer.grab(f"k{name}")
        assert granted.status_code == 201, granted.text
        won[f"k{name}"] = (buyer, str(granted.json()["grab_id"]))
    buyer, last = won[f"k{names[-1]}"]
    until("the ledger has them", lambda: buyer.state(last) == "PERSISTED")
    return won


def replayed(running: Stack, won: dict[str, tuple[Buyer, str]]) -> None:
    """Every winner who asks again is told of the same grab."""
    for key, (buyer, grab_id) in won.items():
        there = Buyer(running, buyer.campaign_id, buyer.token)

        def told(there: Buyer = there, key: str = key) -> str | None:
            answer = there.grab(key)
            assert answer.status_code != 201, f"{key} was granted a second coupon"
            return str(answer.json()["grab_id"]) if answer.status_code == 200 else None

        assert until(f"{key} replays", told) == grab_id


def test_there_and_back_and_into_a_new_stack(first: Stack) -> None:
    """A restore over a live sale keeps what was granted after the backup, since Kafka still has it;
    one into an empty stack has what the backup has, and numbers nothing anew."""
    campaign_id = first.campaign(simple("kept", quota=40))
    before = winners(first, campaign_id, range(5))
    file = first.data.parent / "sale.backup"
    done = first.command("backup", str(file), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["rows"]["coupons"] == 5
    assert "password" not in done.stderr.lower()
    after = winners(first, campaign_id, range(5, 8))
    late = first.campaign(simple("late", quota=3))

    refused = first.command("restore", str(file))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 2)
    assert "--replace" in refused.stderr
    refuses_what_is_no_backup(first, file)
    replayed(first, before | after)

    done = first.command("restore", str(file), "--replace", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["taken_off"] == [late]
    epochs = {row["campaign_id"]: row["epoch"] for row in report["campaigns"]}
    assert epochs[campaign_id] == 2
    replayed(first, before | after)
    more = winners(first, campaign_id, range(8, 10))
    assert first.audit("--campaign", campaign_id)["ok"]
    serials = [grab_id for _, grab_id in (before | after | more).values()]
    assert len(set(serials)) == 10
    assert first.stop() == 0

    with data_folder() as folder, stack(folder, "--demo", environment=ONE_SHOP) as second:
        done = second.command("restore", str(file), "--replace")  # the demo is thrown away
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"campaign {campaign_id} rebuilt (epoch 2)" in done.stdout
        replayed(second, before)
        fresh = winners(second, campaign_id, range(20, 22))
        assert not {grab_id for _, grab_id in fresh.values()} & set(serials)
        assert second.audit()["ok"]
        assert second.stop() == 0


def refuses_what_is_no_backup(running: Stack, file: Path) -> None:
    """Exit 2 with one line, and nothing is changed."""
    other = file.with_name("other")
    for content in (b"", file.read_bytes()[: file.stat().st_size // 2]):
        other.write_bytes(content)
        refused = running.command("restore", str(other), "--replace")
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1), refused.stderr
        assert str(other) in refused.stderr
    again = running.command("backup", str(file))
    assert (again.returncode, "there already" in again.stderr) == (2, True)
    nowhere = running.command("backup", str(file.with_name("no") / "b"))
    assert (nowhere.returncode, "cannot be written" in nowhere.stderr) == (2, True)


@pytest.mark.parametrize("command", ["backup", "restore"])
def test_help_has_an_example(command: str) -> None:
    """As of every command."""
    done = subprocess.run([*COMMAND, command, "--help"], capture_output=True, text=True, check=True)
    assert f"Example: flashgrab {command}" in done.stdout
