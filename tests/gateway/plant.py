"""A campaign's queue and the store behind it, in simulated time: calls of a bounded width, one
after the other, each with a cost of its own and one a grab. Millisecond steps, integers."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.admission import CALLS_FULL, Admission, Aims
from gateway.pace import INTERVAL_WAITS, LOOK_MS

WAIT_MS = 100
INTERVAL_MS = WAIT_MS * INTERVAL_WAITS
QUEUE_MAX = 20_000


@dataclass(frozen=True)
class Store:
    """A call of n grabs takes call_ms + n / per_ms."""

    call_ms: int
    per_ms: int
    batch_max: int

    def took_ms(self, size: int) -> int:
        return max(1, self.call_ms + size // self.per_ms)

    @property
    def capacity(self) -> int:
        """Grabs a second of full calls."""
        return self.batch_max * 1000 // self.took_ms(self.batch_max)


@dataclass
class Second:
    """What one second brought: counts, waits of those decided (ms), limits."""

    offered: int = 0
    decided: int = 0
    shed: int = 0
    waits: list[int] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)


class Plant:
    """Run it second by second; `controlled` False is the control: nobody is turned away early."""

    def __init__(self, store: Store, *, controlled: bool = True) -> None:
        self.store = store
        floor = min(QUEUE_MAX, CALLS_FULL * store.batch_max)
        self.admission = Admission(Aims(WAIT_MS, INTERVAL_MS, floor, QUEUE_MAX))
        self.limit = QUEUE_MAX
        self._controlled = controlled
        self._now = 0
        self._queue: deque[int] = deque()
        self._call: list[int] = []
        self._ends = 0
        self._owed = 0
        self._decided = self._shed = 0

    def run(self, seconds: int, rate: Callable[[int], int] | int) -> list[Second]:
        """Arrivals at so many a second, or at that of each millisecond of this run."""
        found, start = [], self._now
        for _ in range(seconds):
            second = Second()
            found.append(second)
            for _ in range(1000):
                now_rate = rate if isinstance(rate, int) else rate(self._now - start)
                self._step(second, now_rate)
        return found

    def _step(self, second: Second, rate: int) -> None:
        self._now += 1
        now = self._now
        if self._call and now >= self._ends:
            second.decided += len(self._call)
            self._decided += len(self._call)
            second.waits += [now - at for at in self._call[:: max(1, len(self._call) // 8)]]
            self._call = []
        self._owed += rate
        arrived, self._owed = divmod(self._owed, 1000)
        room = max(0, self.limit - len(self._queue) - len(self._call))
        taken = min(arrived, room)
        self._queue.extend([now] * taken)
        second.offered += arrived
        second.shed += arrived - taken
        self._shed += arrived - taken
        if not self._call and self._queue:
            size = min(self.store.batch_max, len(self._queue))
            self._call = [self._queue.popleft() for _ in range(size)]
            self._ends = now + self.store.took_ms(size)
        if self._controlled and now % LOOK_MS == 0:
            stands = len(self._queue) > self.store.batch_max
            wait = now - self._queue[0] if stands else 0
            self.limit = self.admission.look(now, wait, self._decided, self._shed)
            second.limits.append(self.limit)
