"""How far the relay is in each campaign's outbox. Pure.

Memory only: a new relay starts at the first entry, and so sends again all that is above the
watermark.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from flashgrab.events import Entry, OutboxEntry
from flashgrab.state import OutboxStanding

FIRST = "0"
"""Before the first entry."""


@dataclass(slots=True, eq=False)
class Cursor:
    """Entry ids up to which is read, and up to which the broker has acknowledged.

    Starting again makes a new cursor, so that a late acknowledgement moves only the old one.
    """

    epoch: int
    read: str = FIRST
    acked: str = FIRST


Marks = list[tuple[Cursor, str]]
"""Cursors and the entries up to which an acknowledgement moves them."""


def seq_of(entry_id: str) -> int:
    """The last seq of an entry."""
    return int(entry_id.partition("-")[0])


def id_of(entry: Entry) -> str:
    """The stream id of an entry."""
    return f"{entry.last_seq}-0" if isinstance(entry, OutboxEntry) else entry.entry_id


class Cursors:
    """The cursors of all campaigns."""

    def __init__(self) -> None:
        self._cursors: dict[str, Cursor] = {}

    def learn(self, standings: Mapping[str, OutboxStanding], reading: Mapping[str, str]) -> None:
        """What Redis has now; `reading` is what had been read before it was asked.

        Another epoch, or a seq below what was read, is another history: start at its first entry.
        """
        for campaign_id in [c for c in self._cursors if c not in standings]:
            del self._cursors[campaign_id]
        for campaign_id, standing in standings.items():
            cursor = self._cursors.get(campaign_id)
            older = standing.seq < seq_of(reading.get(campaign_id, FIRST))
            if cursor is None or older or cursor.epoch != standing.epoch:
                self._cursors[campaign_id] = Cursor(standing.epoch)

    def reading(self) -> dict[str, str]:
        """Campaign → the last entry read."""
        return {campaign_id: cursor.read for campaign_id, cursor in self._cursors.items()}

    def take(
        self, reading: Mapping[str, str], entries: Mapping[str, Sequence[Entry]]
    ) -> tuple[dict[str, Sequence[Entry]], Marks]:
        """What was read after `reading`, without what a restarted cursor no longer wants."""
        taken: dict[str, Sequence[Entry]] = {}
        marks: Marks = []
        for campaign_id, some in entries.items():
            cursor = self._cursors.get(campaign_id)
            if cursor is None or cursor.read != reading[campaign_id] or not some:
                continue
            cursor.read = id_of(some[-1])
            taken[campaign_id] = some
            marks.append((cursor, cursor.read))
        return taken, marks

    def acked_seq(self, campaign_id: str) -> int:
        """The last seq that the broker has acknowledged, 0 before the first."""
        cursor = self._cursors.get(campaign_id)
        return seq_of(cursor.acked) if cursor else 0

    def back(self) -> None:
        """Read again what was not acknowledged."""
        for cursor in self._cursors.values():
            cursor.read = cursor.acked

    def start_again(self) -> None:
        """Read again everything: the broker has lost what it had acknowledged."""
        self._cursors = {c: Cursor(cursor.epoch) for c, cursor in self._cursors.items()}


def move(marks: Marks) -> None:
    """The broker has everything up to these marks."""
    for cursor, entry_id in marks:
        cursor.acked = entry_id
