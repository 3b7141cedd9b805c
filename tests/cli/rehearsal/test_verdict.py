"""The closing block of a rehearsal."""

from collections import Counter
from dataclasses import dataclass, field

import pytest

from flashgrab.cli.rehearsal.crowd import Answered, Ask
from flashgrab.cli.rehearsal.sale import Sale
from flashgrab.cli.rehearsal.tally import Tally
from flashgrab.cli.rehearsal.verdict import lines, p99_ms, thresholds
from flashgrab.outcomes import Outcome

SOLD = Outcome.SOLD_OUT
RIGHT = (
    "every campaign granted min(quota, buyers), one coupon a buyer,"
    " and answered every duplicate right"
)


@dataclass
class Books:
    """What an audit found."""

    ok: bool = True
    campaigns: list[str] = field(default_factory=lambda: ["c"])


def sold(quota: int = 1) -> Tally:
    """Two buyers, one coupon: the first got it after 48 ms."""
    tally = Tally(Sale("c", "N", ["a", "b"], quota, ("k",)))
    tally.take(Answered(Ask("c", "a", "k"), Outcome.GRANTED, "", ("c-1",), 0, 1.0, 1.048))
    tally.take(Answered(Ask("c", "b", "k"), SOLD, "", (), 0, 1.01, 1.02))
    tally.close()
    return tally


def test_everything_is_well() -> None:
    """Every line has its sign; what was not asked for has none."""
    found = thresholds([sold()], Books(), 100)
    assert lines(found, [sold()], 12.0) == [
        "✓ p99                   48.0 ms (at most 100)",
        "✓ refused unexpectedly  0",
        "✓ oversold              0",
        f"✓ answers               {RIGHT}",
        "✓ audit                 the books balance: I1 to I6 in 1 campaign",
        "  sold out 48 ms after the first request",
    ]
    found = thresholds([sold(9)], None, None)
    assert [each.ok for each in found] == [None, True, True, False, None]


def test_each_threshold_can_be_missed() -> None:
    """A p99 that is too slow, an answer that no sale has, a coupon too many, books that are off."""
    assert [t.name for t in thresholds([sold()], Books(), 40) if t.ok is False] == ["p99"]
    busy = sold()
    busy.refused[Outcome.BUSY] = 1
    assert [t.name for t in thresholds([busy], None, None) if t.ok is False] == [
        "refused unexpectedly"
    ]
    over = sold()
    over.granted = 3
    assert [t.name for t in thresholds([over], None, None) if t.ok is False] == ["oversold"]


def test_what_went_to_others_is_said() -> None:
    """Somebody pressed the button of the page meanwhile."""
    found = sold(2)
    found.others = 1
    found.problems.clear()
    (answers,) = [t for t in thresholds([found], None, None) if t.name == "answers"]
    assert (answers.ok, answers.said) == (True, f"{RIGHT}; 1 went to other buyers")


def test_a_crowd_that_is_late_itself_says_so() -> None:
    """As load generators do: past 80 % of a core its latencies are its own."""
    *_, last = lines(thresholds([sold()], None, None), [sold()], 97.0)
    assert last.startswith("! this crowd itself used 97 % of a core")


@pytest.mark.parametrize(
    "took, expected",
    [({}, None), ({1000: 1}, 1.0), ({1000: 99, 50_000: 1}, 1.0), ({1000: 98, 50_000: 2}, 50.0)],
)
def test_the_p99_of_all_campaigns(took: dict[int, int], expected: float | None) -> None:
    """Nearest rank."""
    tally = Tally(Sale("c", "N", [], 1, ()))
    tally.took_us = Counter(took)
    assert p99_ms([tally]) == expected


def test_latencies_take_bounded_space() -> None:
    """Three digits are kept: a million different ones are some thousands."""
    tally = Tally(Sale("c", "N", [], 1, ("k", "k")))
    for n in range(20_000):
        took_s = n * 0.0011237
        tally.take(Answered(Ask("c", f"u{n}", "k"), SOLD, "", (), 0, 0.0, took_s))
    assert len(tally.took_us) < 5000
    assert p99_ms([tally]) == pytest.approx(19_800 * 1.1237, rel=0.01)
