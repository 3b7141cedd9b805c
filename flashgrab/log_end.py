"""How far the ledger must have read before nothing of a topic's log is still on its way."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass
class LogEnd:
    """The offsets after the last record of each partition, as they were when it was first asked."""

    ends: Mapping[int, int] | None = None

    def is_read(self, ends: Mapping[int, int], done: Mapping[int, int]) -> bool:
        """Whether the ledger, which reads on at `done`, has all of it; the log ends at `ends` now.

        A log that is shorter than it was is another one: what it lost, nobody can wait for. An
        offset beyond the log's end is of an older incarnation of the topic.
        """
        if self.ends is None or any(ends.get(p, 0) < end for p, end in self.ends.items()):
            self.ends = ends
        return all(self.ends.get(p, 0) <= done.get(p, 0) <= end for p, end in ends.items())

    def behind(self, done: Mapping[int, int]) -> int:
        """Records that the ledger still has to read."""
        return sum(max(0, end - done.get(p, 0)) for p, end in (self.ends or {}).items())
