"""The books of the campaigns that are looked at: Redis' counters, the ledger's, the audit's lights.

Granted is the script's own count and persisted the ledger's: neither is made of the other.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from centre.console.shapes import Book
from flashgrab.errors import LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger import console
from flashgrab.ledger.console import Note, Round, Standing
from flashgrab.ledger.pool import Pool
from flashgrab.state import CampaignState
from flashgrab.store import Store

INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6")
ALIVE_MAX = 20
"""Campaigns that may still grant, the nearest opening first."""
SELECTED_MAX = 20
"""Campaigns besides, because pages look at them. Neither kind pushes out the other."""
ROUNDS_EVERY_MS = 3000
SEQS_MAX = 3600
"""Seconds of lag that can be told."""
NOTES_MS = 130_000
LOOK_S_MAX = 2.0
"""After which a store counts as away, for this look."""

Values = Mapping[tuple[str, tuple[str, ...]], float]


@dataclass
class Books:
    """What the last look saw. `now` by campaign; `rounds` of the campaigns that are looked at."""

    pool: Pool
    store: Store
    ledger: bool = False
    now: dict[str, Book] = field(default_factory=dict)
    standings: dict[str, Standing] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    _watched: list[str] = field(default_factory=list)
    _selected: set[str] = field(default_factory=set)
    _found_ms: int = 0
    _seqs: dict[str, deque[tuple[int, int]]] = field(default_factory=dict)

    async def look(self, selected: Collection[str], values: Values, now_ms: int) -> None:
        """Once a second: those that may still grant, and the selected ones that there are."""
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                if self._selected != set(selected) or now_ms - self._found_ms >= ROUNDS_EVERY_MS:
                    await self._find(selected, now_ms)
                    self._selected, self._found_ms = set(selected), now_ms
            self.ledger = True
        except (LedgerUnavailable, TimeoutError):
            self.ledger = False
        watched = self._watched
        self._seqs = {one: seen for one, seen in self._seqs.items() if one in watched}
        states, _ = await asyncio.gather(self._states(watched), self._ledger(watched, now_ms))
        found = {one: self._book(one, states.get(one), values, now_ms) for one in watched}
        self.now = {one: book for one, book in found.items() if book is not None}

    async def _find(self, selected: Collection[str], now_ms: int) -> None:
        """Which campaigns to look at, and their rounds. Ids that a page made up have none."""
        alive = await console.nearest(self.pool, now_ms, ALIVE_MAX, alive=True)
        asked = list(dict.fromkeys([*alive, *selected]))
        self.rounds = await console.rounds(self.pool, asked)
        known = {r.campaign_id for r in self.rounds}
        besides = [one for one in selected if one in known and one not in alive]
        self._watched = alive + besides[:SELECTED_MAX]

    async def _ledger(self, watched: list[str], now_ms: int) -> None:
        if not self.ledger:
            return
        try:
            async with asyncio.timeout(LOOK_S_MAX):
                self.standings = await console.standings(self.pool, watched)
                since = now_ms - NOTES_MS
                self.notes = await console.notes(self.pool, watched, since, now_ms + 1)
        except (LedgerUnavailable, TimeoutError):
            self.ledger = False

    async def _states(self, watched: list[str]) -> dict[str, CampaignState]:
        found = {}
        with contextlib.suppress(StoreUnavailable, TimeoutError):
            async with asyncio.timeout(LOOK_S_MAX):
                for one in watched:
                    with contextlib.suppress(StoreRefused, KeyError, ValueError):
                        if state := await self.store.read(one):
                            found[one] = state
        return found

    def _book(
        self, campaign_id: str, state: CampaignState | None, values: Values, now_ms: int
    ) -> Book | None:
        standing = self.standings.get(campaign_id) if self.ledger else None
        if state is None and standing is None:
            return None
        book = Book()
        if state is not None:
            book.quota = sum(r.quota for r in state.rounds)
            book.left = sum(r.left for r in state.rounds)
            book.lefts = {str(r.number): r.left for r in state.rounds}
            book.granted = sum(r.granted for r in state.rounds)
            book.returned = sum(r.returned for r in state.rounds)
            book.seq, book.watermark = state.seq, state.watermark
        if standing is not None:
            book.persisted, book.watermark = standing.granted, standing.watermark
        book.outbox = _whole(values.get(("flashgrab_outbox_entries", (campaign_id,))))
        lag_s = values.get(("flashgrab_relay_lag_seconds", ()))
        book.relay_ms = None if lag_s is None else int(lag_s * 1000)
        book.ledger_ms = self._ledger_ms(campaign_id, state, book.watermark, now_ms)
        ok = [values.get(("flashgrab_invariant_ok", (campaign_id, name))) for name in INVARIANTS]
        book.lights = "".join("?" if one is None else str(int(one)) for one in ok)
        return book

    def _ledger_ms(
        self, campaign_id: str, state: CampaignState | None, watermark: int | None, now_ms: int
    ) -> int | None:
        """How old the oldest fact is that the ledger has not: since when its seq was seen."""
        if state is None or watermark is None:
            return None
        seen = self._seqs.setdefault(campaign_id, deque(maxlen=SEQS_MAX))
        if not seen or seen[-1][1] != state.seq:
            seen.append((now_ms, state.seq))
        while seen and seen[0][1] <= watermark:
            seen.popleft()
        return now_ms - seen[0][0] if seen else 0


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)
