"""Bounded counters with decay: how many different members a group had lately, and how regularly
somebody comes. What they take of memory is fixed when they are made."""

from array import array

from gateway.holders import Filter

WINDOW_MS = 600_000
GROUP_SLOTS = 1 << 19
MEMBERS_MAX = 200_000
"""In half a window; past it the window is shorter, not the memory larger."""
COUNT_MAX = 65_535

BEAT_SLOTS = 1 << 16
STEADY_SHARE = 20
"""Two pauses are alike where they differ by at most one part in so many."""
PAUSE_MS_MIN = 100
"""Shorter ones are a crowd's, or a page's own retries: no rhythm is to be read from them."""


class Distinct:
    """How many different members each group had in the last window.

    Two generations of half a window, the older one fading out; each is a Bloom filter of pairs
    (gateway/holders.py) and a count-min sketch of two rows. Counted too high is a group about once
    in 10,000 at the bound, by no more than another has; Python's keyed hash lets nobody aim at it.
    """

    def __init__(self, window_ms: int = WINDOW_MS, members_max: int = MEMBERS_MAX) -> None:
        self._half_ms = window_ms // 2
        self._members_max = members_max
        self._now = _Generation(members_max)
        self._before = _Generation(members_max)
        self._since_ms = 0

    def add(self, group: str, member: str, now_ms: int) -> int:
        """Count a member in; how many the group has with it, the fading ones in part."""
        age_ms = now_ms - self._since_ms
        if age_ms >= self._half_ms or self._now.members >= self._members_max:
            self._turn(now_ms, age_ms)
            age_ms = 0
        pair, h = f"{group}/{member}".encode(), hash(group)
        slots = (h & (GROUP_SLOTS - 1), GROUP_SLOTS + (h >> 24 & (GROUP_SLOTS - 1)))
        if not self._now.pairs.may_hold(pair):
            self._now.pairs.add(pair)
            self._now.members += 1
            _count(self._now.counts, slots, 1)
            if self._before.pairs.may_hold(pair):
                _count(self._before.counts, slots, -1)
        return self._standing(slots, age_ms)

    def count(self, group: str, now_ms: int) -> int:
        """The same without counting anybody in."""
        h, age_ms = hash(group), now_ms - self._since_ms
        slots = (h & (GROUP_SLOTS - 1), GROUP_SLOTS + (h >> 24 & (GROUP_SLOTS - 1)))
        return self._standing(slots, min(age_ms, self._half_ms))

    def _standing(self, slots: tuple[int, int], age_ms: int) -> int:
        fading = min(self._before.counts[slot] for slot in slots)
        left_ms = max(0, self._half_ms - age_ms)
        return min(self._now.counts[slot] for slot in slots) + fading * left_ms // self._half_ms

    def _turn(self, now_ms: int, age_ms: int) -> None:
        empty = age_ms >= 2 * self._half_ms
        self._before = _Generation(self._members_max) if empty else self._now
        self._now = _Generation(self._members_max)
        self._since_ms = now_ms


class _Generation:
    """Who was counted in half a window."""

    def __init__(self, members_max: int) -> None:
        self.pairs = Filter(members_max)
        self.counts = array("H", bytes(2 * 2 * GROUP_SLOTS))
        self.members = 0


def _count(counts: "array[int]", slots: tuple[int, int], by: int) -> None:
    for slot in slots:
        counts[slot] = max(0, min(COUNT_MAX, counts[slot] + by))


class Rhythm:
    """How many times in a row somebody came after the same pause. Who is forgotten, because
    another took the slot, starts anew."""

    def __init__(self) -> None:
        self._who = array("Q", bytes(8 * BEAT_SLOTS))
        self._last_ms = array("Q", bytes(8 * BEAT_SLOTS))
        self._pause_ms = array("Q", bytes(8 * BEAT_SLOTS))
        self._run = array("H", bytes(2 * BEAT_SLOTS))

    def beat(self, who: str, now_ms: int) -> int:
        """It came; how many pauses before this one were like it."""
        tag = hash(who) & (1 << 64) - 1
        slot = tag & (BEAT_SLOTS - 1)
        if self._who[slot] != tag:
            self._who[slot], self._run[slot], self._pause_ms[slot] = tag, 0, 0
            self._last_ms[slot] = now_ms
            return 0
        pause_ms, before_ms = max(0, now_ms - self._last_ms[slot]), self._pause_ms[slot]
        alike = abs(pause_ms - before_ms) * STEADY_SHARE <= before_ms
        steady = alike and pause_ms >= PAUSE_MS_MIN
        self._run[slot] = min(COUNT_MAX, self._run[slot] + 1) if steady else 0
        self._last_ms[slot], self._pause_ms[slot] = now_ms, pause_ms
        return self._run[slot]
