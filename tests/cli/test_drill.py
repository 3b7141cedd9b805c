"""`flashgrab drill`: a fault that heals is exit 0, damage is exit 1, wrong use is exit 2."""

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from flashgrab.cli.app import main
from flashgrab.cli.rehearsal import books, drill
from flashgrab.cli.target import Target
from flashgrab.ledger.pool import Pool

pytestmark = [pytest.mark.xdist_group("up")]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer buyers than an operator's drill has."""
    monkeypatch.setattr(drill, "BUYERS", 250)
    monkeypatch.setattr(drill, "BEFORE_S", 0.7)
    monkeypatch.setattr(drill, "FROZEN_S", 1.0)


def left() -> tuple[set[Path], set[int]]:
    """Folders of drills, and children of this process."""
    folders = set(Path(tempfile.gettempdir()).glob("flashgrab-drill-*"))
    return folders, {child.pid for child in psutil.Process().children()}


def test_a_worker_that_dies(capsys: pytest.CaptureFixture[str]) -> None:
    """It comes back, the ledger goes on, everybody has a coupon; nothing is left behind."""
    before = left()
    assert main(["drill", "kill-worker", "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["ok"] is True
    assert found["outcomes"] == {"GRANTED": 250, "REPLAYED": 250}
    assert min(found[f"{what}_again_ms"] for what in ("serves", "grants", "ledger")) >= 0
    assert found["audit"]["campaigns"][0]["persisted"] == 250
    assert "kill -9 of worker" in told.err
    assert left() == before


def test_damage_is_bad_news(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that is gone from the ledger makes the same drill exit 1, and it says why."""
    audit = books.audit

    async def damaged(target: Target, campaign_ids: Sequence[str]) -> Any:
        await audit(target, campaign_ids)  # waits for the ledger
        pool = Pool(target.postgres_url, 1)
        async with pool.connection() as connection:
            await connection.execute("DELETE FROM coupons WHERE serial = 7")
        await pool.close()
        return await audit(target, campaign_ids)

    monkeypatch.setattr(books, "audit", damaged)
    assert main(["drill", "freeze-gateway"]) == 1
    told = capsys.readouterr().out
    assert "gateway stands still for 1 s" in told
    assert "the books do NOT balance" in told
    assert "the drill went WRONG" in told


def test_the_list_and_wrong_use(capsys: pytest.CaptureFixture[str]) -> None:
    """--list names every drill; a name that is none, or none at all, is one line and exit 2."""
    assert main(["drill", "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(drill.DRILLS)
    for wrong in (["nonsense"], [], ["kill-relay", "--list"]):
        assert main(["drill", *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
