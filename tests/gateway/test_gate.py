"""What a campaign says from memory: the precedence, the edges, and how long it stands."""

import pytest

from flashgrab.outcomes import Outcome
from flashgrab.state import RoundState
from gateway.campaigns import Campaign
from gateway.gate import EDGE_MS, HEARD_MS, gate_of
from tests.gateway.test_campaigns import state


def campaign(heard_ms: int, **changes: object) -> Campaign:
    """Two rounds, 1000 to 2000 and 3000 to 4000 ms, as they were heard of last."""
    found = Campaign("c")
    found.update(state(**changes), heard_ms)
    return found


@pytest.mark.parametrize(
    "now_ms, changes, outcome",
    [
        (900, {}, Outcome.NOT_STARTED),
        (1500, {}, None),
        (1500, {"left": [0, 7]}, Outcome.SOLD_OUT),
        (2500, {"left": [0, 7]}, Outcome.NOT_STARTED),
        (3500, {"left": [0, 7]}, None),
        (4500, {}, Outcome.ENDED),
        (1500, {"status": "PAUSED", "left": [0, 7]}, Outcome.PAUSED),
        (900, {"status": "PAUSED"}, Outcome.PAUSED),
        (4500, {"status": "PAUSED"}, Outcome.ENDED),
        (1500, {"status": "OFFLINE"}, Outcome.OFFLINE),
        (4500, {"status": "OFFLINE"}, Outcome.OFFLINE),
    ],
)
def test_the_precedence(now_ms: int, changes: dict[str, object], outcome: Outcome | None) -> None:
    """The one of the contract, as the script has it."""
    gate = gate_of(campaign(now_ms, **changes), now_ms)
    assert (gate.ask, gate.outcome) == (False, outcome)


@pytest.mark.parametrize("edge", [1000, 2000, 3000, 4000])
def test_near_an_edge_only_redis_knows(edge: int) -> None:
    """Within 50 ms of an opening or an end the script is asked."""
    for now_ms in (edge - EDGE_MS + 1, edge, edge + EDGE_MS - 1):
        gate = gate_of(campaign(now_ms), now_ms)
        assert gate.ask
        assert gate.until_ms == edge + EDGE_MS
    assert not gate_of(campaign(edge + EDGE_MS), edge + EDGE_MS).ask


def test_a_gate_stands_until_the_next_edge() -> None:
    """And is the same object as long, unless something is heard."""
    found = campaign(1500)
    gate = gate_of(found, 1500)
    assert gate.until_ms == 2000 - EDGE_MS
    assert gate_of(found, 1900) is gate
    assert gate_of(found, 1950) is not gate
    found.hear(1600)
    assert found.gate is None


def test_what_was_heard_before_the_last_edge_says_nothing_after_it() -> None:
    """Other gateways may have granted up to the end: the floor known here may be too low."""
    assert gate_of(campaign(1990), 2200).ask
    assert gate_of(campaign(2000 + EDGE_MS - 1), 2200).ask
    assert not gate_of(campaign(2000 + EDGE_MS), 2200).ask
    assert gate_of(campaign(3990), 4500).ask


def test_old_news_is_no_news_but_an_end_is_for_ever() -> None:
    """After 2 s without a word the script is asked, unless the campaign is over."""
    long_ = RoundState(1, 1000, 100_000, 5, 0, 5, 0)
    for changes in ({}, {"status": "PAUSED"}):
        found = campaign(1100, rounds=(long_,), **changes)
        assert not gate_of(found, 1100 + HEARD_MS - 1).ask
        assert gate_of(found, 1100 + HEARD_MS).ask
    assert gate_of(campaign(4100), 10**9).outcome is Outcome.ENDED
    assert gate_of(campaign(4100, status="OFFLINE"), 10**9).outcome is Outcome.OFFLINE


def test_a_missing_campaign_or_a_younger_generation_is_asked_about() -> None:
    """Until the state itself has been read again."""
    missing = campaign(1500)
    missing.update(None)
    assert gate_of(missing, 1500).ask
    behind = campaign(1500)
    behind.learn(2, 5, 1, 3, 1500)
    assert gate_of(behind, 1500).ask
    behind.update(state(generation=2, seq=5), 1510)
    assert not gate_of(behind, 1510).ask
