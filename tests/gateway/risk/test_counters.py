"""Bounded counters: against an exact memory, in their decay, at their bounds."""

import random
import sys

from gateway.risk.counters import COUNT_MAX, WINDOW_MS, Distinct, Rhythm

HALF_MS = WINDOW_MS // 2


def test_they_count_as_an_exact_memory_does() -> None:
    """Inside half a window: the number of different members, for all but a few groups."""
    pick, counter, exact = random.Random(7), Distinct(), dict[str, set[str]]()
    start_ms, wrong = 10 * WINDOW_MS, 0
    for n in range(30_000):
        group = f"g{pick.randint(0, 5000)}"
        member = f"m{pick.randint(0, 8)}"
        exact.setdefault(group, set()).add(member)
        said = counter.add(group, member, start_ms + n)
        wrong += said != len(exact[group])
        # too high, where others share both slots, by no more than another one has
        assert -2 <= said - len(exact[group]) <= 9
    assert wrong <= 90  # the filter takes one new pair in 1,500 for a known one


def test_a_member_counts_once_over_two_generations() -> None:
    """Who comes again in the next half of the window is not counted twice, and not faded."""
    counter, start_ms = Distinct(), 10 * WINDOW_MS
    for n in range(10):
        counter.add("g", f"m{n}", start_ms)
    late_ms = start_ms + HALF_MS
    for n in range(10):
        assert counter.add("g", f"m{n}", late_ms) == 10
    assert counter.count("g", late_ms + 1) == 10


def test_they_forget() -> None:
    """A generation fades over half a window after its own, then it is gone."""
    counter, start_ms = Distinct(), 10 * WINDOW_MS
    for n in range(100):
        counter.add("g", f"m{n}", start_ms)
    assert counter.count("g", start_ms + HALF_MS - 1) == 100
    counter.add("other", "x", start_ms + HALF_MS)
    assert counter.count("g", start_ms + HALF_MS + HALF_MS // 2) == 50
    assert counter.add("g", "new", start_ms + 2 * WINDOW_MS) == 1


def test_memory_is_fixed_and_a_flood_shortens_the_window() -> None:
    """Past the bound of members a generation ends early; what it takes of memory stays."""
    counter = Distinct(members_max=1000)
    before = sys.getsizeof(counter._now.counts) + counter._now.pairs.bytes
    for n in range(3500):
        counter.add(f"g{n}", "m", WINDOW_MS * 10)
    assert counter._now.members <= 1000
    assert sys.getsizeof(counter._now.counts) + counter._now.pairs.bytes == before
    assert counter.count("g3499", WINDOW_MS * 10) == 1
    assert counter.count("g10", WINDOW_MS * 10) == 0


def test_a_count_stays_in_its_bounds() -> None:
    """It stops at the largest number of its slot, and never goes below 0."""
    counter = Distinct(members_max=COUNT_MAX * 2)
    counter._now.counts[:] = type(counter._now.counts)("H", [COUNT_MAX] * len(counter._now.counts))
    assert counter.add("g", "m", 1) == COUNT_MAX


def test_a_rhythm_is_seen() -> None:
    """The same pause again and again counts up, a person's does not, a break starts anew."""
    rhythm, pick = Rhythm(), random.Random(3)
    assert [rhythm.beat("bot", 1000 + 500 * n) for n in range(6)] == [0, 0, 1, 2, 3, 4]
    assert rhythm.beat("bot", 60_000) == 0
    now_ms, longest = 0, 0
    for _ in range(300):
        now_ms += int(pick.expovariate(1 / 5000)) + 300
        longest = max(longest, rhythm.beat("person", now_ms))
    assert longest <= 3


def test_bursts_have_no_rhythm() -> None:
    """Pauses below a tenth of a second are a crowd's; clocks that go back do no harm."""
    rhythm = Rhythm()
    assert {rhythm.beat("office", 1000 + 20 * n) for n in range(50)} == {0}
    assert rhythm.beat("office", 0) == 0
