"""How many grabs of one campaign may wait, from how long they do. Pure; times in ms.

Normally as many as the queue takes: a burst is what a queue is for. A queue that has not once been
short for a whole interval is no burst: more arrives than is decided (the test of CoDel: Nichols and
Jacobson, Controlling Queue Delay, ACM Queue 10/5, 2012). Then no more are taken in than are decided
in the wait that is aimed at: the rate of decisions times that wait (Little's law, as TCP BBR bounds
what is in flight: Cardwell et al., ACM Queue 14/5, 2016). Who is in stays in; who comes is told.
"""

from collections import deque
from dataclasses import dataclass

CALLS_FULL = 3
"""Full calls that may always wait: two in flight and the next. With fewer the store would idle."""


@dataclass(frozen=True, slots=True)
class Aims:
    """The wait aimed at, and how long it must be exceeded without a break, ms; the least and the
    most grabs that may wait or be in flight."""

    wait_ms: int
    interval_ms: int
    floor: int
    ceiling: int


class Standing:
    """Whether a delay has been too long for a whole interval, at every look."""

    def __init__(self, wait_ms: int, interval_ms: int) -> None:
        self._wait_ms = wait_ms
        self._interval_ms = interval_ms
        self._since_ms: int | None = None

    def sees(self, delay_ms: int, now_ms: int) -> bool:
        """Looks at it now."""
        if delay_ms < self._wait_ms:
            self._since_ms = None
            return False
        if self._since_ms is None:
            self._since_ms = now_ms
        return now_ms - self._since_ms >= self._interval_ms


class Admission:
    """Of one campaign. Ends when nobody had to be turned away for an interval: with the bound
    off, the queue would only grow again until it is noticed again."""

    def __init__(self, aims: Aims) -> None:
        self._aims = aims
        self._standing = Standing(aims.wait_ms, aims.interval_ms)
        self._seen: deque[tuple[int, int]] = deque()  # when, and how many were decided until then
        self._shed = 0
        self._shed_ms = 0
        self.sheds = False
        """Whether there is more than can be decided."""
        self.rate = 0
        """Decisions a second, of the last interval."""

    def look(self, now_ms: int, wait_ms: int, decided: int, shed: int) -> int:
        """The most that may wait or be in flight from now on. `wait_ms` is the oldest's wait where
        more wait than the next call takes, else 0: what that call ends is no standing queue.
        `decided` and `shed` count from the start."""
        aims = self._aims
        self._count(now_ms, decided)
        if self._standing.sees(wait_ms, now_ms) or (self.sheds and shed > self._shed):
            self.sheds, self._shed_ms = True, now_ms
        elif now_ms - self._shed_ms >= aims.interval_ms:
            self.sheds = False
        self._shed = shed
        if not self.sheds:
            return aims.ceiling
        return min(aims.ceiling, max(aims.floor, self.rate * aims.wait_ms // 1000))

    def _count(self, now_ms: int, decided: int) -> None:
        seen, since_ms = self._seen, now_ms - self._aims.interval_ms
        seen.append((now_ms, decided))
        while len(seen) > 2 and seen[1][0] <= since_ms:
            seen.popleft()
        passed_ms = now_ms - seen[0][0]
        if passed_ms > 0:
            self.rate = (decided - seen[0][1]) * 1000 // passed_ms
