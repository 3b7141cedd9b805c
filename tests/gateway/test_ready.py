"""Answers made beforehand are those of the ordinary route, byte for byte."""

import pytest

from flashgrab.clock import SystemClock
from flashgrab.outcomes import Outcome
from flashgrab.state import RoundState
from gateway import ready as ready_module
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant, Reply, new_grant
from gateway.ready import Ready
from gateway.redis_clock import RedisClock
from gateway.replies import grab_reply, to_bytes
from tests.gateway.test_campaigns import known, state

DATE = [(b"date", b"Mon, 23 Nov 2026 01:00:00 GMT")]
MORES = [b"", b"access-control-allow-origin: https://100%25.example\r\nvary: Origin\r\n"]


def single() -> Campaign:
    """One round only, persisted up to seq 10."""
    campaign = Campaign("single")
    campaign.update(state(rounds=(RoundState(1, 0, 10**15, 9, 9, 0, 0),), seq=20, watermark=10), 1)
    return campaign


def grants(*serials: int, state_: str = "g") -> tuple[Grant, ...]:
    return tuple(Grant(serial, serial, 1, state_, "k") for serial in serials)


DECISIONS = [
    Decision(Outcome.REPLAYED, grants(3)),
    Decision(Outcome.REPLAYED, grants(1_234_567)),
    Decision(Outcome.REPLAYED, grants(3, state_="r")),
    Decision(Outcome.USER_LIMIT, grants(3)),
    Decision(Outcome.USER_LIMIT, (*grants(3, 77), *grants(5, state_="r"))),
    Decision(Outcome.DEVICE_LIMIT, (), 1500),
    Decision(Outcome.SOLD_OUT, (), 1500),
    Decision(Outcome.NOT_STARTED, (), 500),
    Decision(Outcome.ENDED, (), 5000),
    Decision(Outcome.OFFLINE, (), 5000),
]


@pytest.fixture
def clock() -> RedisClock:
    """It is always 500 ms."""

    class Still(SystemClock):
        def monotonic_ms(self) -> int:
            return 0

    clock = RedisClock(Still())
    clock.observe(500)
    return clock


@pytest.mark.parametrize("more", MORES)
@pytest.mark.parametrize("serial", [1, 9, 10, 123_456_789_012_34])
def test_a_grant(clock: RedisClock, serial: int, more: bytes) -> None:
    """Whatever the length of its serial; the second one comes from the form."""
    made, campaign = Ready(clock), single()
    reply = Reply(1, 1, 5, 1500, 1, 3)
    expected = to_bytes(grab_reply(campaign, new_grant(serial, reply), 0), DATE, more=more)
    for _ in range(2):
        assert made.granted(campaign, serial, reply, more, DATE) == expected


@pytest.mark.parametrize("more", MORES)
@pytest.mark.parametrize("decision", DECISIONS)
@pytest.mark.parametrize("make", [single, known])
def test_any_other_decision(clock: RedisClock, make: type, decision: Decision, more: bytes) -> None:
    """Of campaigns with one round and with several; the second one may be kept."""
    made, campaign = Ready(clock), make()
    expected = to_bytes(grab_reply(campaign, decision, clock.now_ms()), DATE, more=more)
    for _ in range(2):
        assert made.answer(campaign, decision, more, DATE) == expected


def test_a_kept_replay_tells_the_state_of_now(clock: RedisClock) -> None:
    """Memory answers with the same decision again; meanwhile the ledger has got the grant."""
    made, campaign = Ready(clock), single()
    replay = Decision(Outcome.REPLAYED, (Grant(7, campaign.watermark + 1, 1, "g", "k"),), 1500)
    assert b'"state":"GRANTED"' in made.answer(campaign, replay, b"", DATE)
    campaign.watermark += 1
    assert b'"state":"PERSISTED"' in made.answer(campaign, replay, b"", DATE)


def test_a_new_date_makes_all_anew(clock: RedisClock) -> None:
    """uvicorn's list is another one each second."""
    made, campaign = Ready(clock), single()
    later = [(b"date", b"Mon, 23 Nov 2026 01:00:01 GMT")]
    reply = Reply(1, 1, 5, 1500, 1, 3)
    for decision in DECISIONS:
        made.answer(campaign, decision, b"", DATE)
        assert later[0][1] in made.answer(campaign, decision, b"", later)
    made.granted(campaign, 1, reply, b"", DATE)
    assert later[0][1] in made.granted(campaign, 1, reply, b"", later)


def test_those_turned_away_do_not_come_back_together(clock: RedisClock) -> None:
    """The answer BUSY is made beforehand too, in many kinds: one decision, many times to wait."""
    made, campaign, busy = Ready(clock), single(), Decision(Outcome.BUSY)
    told = [made.answer(campaign, busy, b"", DATE) for _ in range(3 * ready_module.JITTERS)]
    assert len(set(told)) > ready_module.JITTERS // 2
    assert set(told[ready_module.JITTERS :]) <= set(told[: ready_module.JITTERS])


def test_what_is_kept_has_a_bound(clock: RedisClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past it all are made anew, and still right."""
    monkeypatch.setattr(ready_module, "READY_MAX", 3)
    made, campaign = Ready(clock), single()
    for n in range(10):
        more = b"x: %d\r\n" % n
        for decision in DECISIONS:
            expected = to_bytes(grab_reply(campaign, decision, 500), DATE, more=more)
            assert made.answer(campaign, decision, more, DATE) == expected
        assert len(made._granted) + len(made._forms) + len(made._refusals) <= 3
