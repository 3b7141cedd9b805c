"""Twice a second: ask the parts, join what they say on one axis, keep it, wake the streams.

It lives in the centre's loop and never raises: whatever is away is shown as away.
"""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import structlog

from centre.console.asking import Asked, Asker
from centre.console.books import NOTES_MS, Books, Values
from centre.console.keeper import Keeper, is_near
from centre.console.shapes import SECOND_MS, Book, Part, Second
from flashgrab.alarms import Alarm
from flashgrab.clock import Clock
from flashgrab.ledger.console import Note, Round
from flashgrab.recent import KEPT_MS, STEP_MS, Joined, Process, Row, bounds
from flashgrab.tasks import end

EVERY_MS = 500
STREAMS_MAX = 64
"""Pages that are told at once, in all."""
READER_STREAMS_MAX = 16
"""Of one session, token or read-only link."""
STOP_S = 0.5
"""For looks that have begun when the centre stops."""
NOTES_KEPT = 200
SEED_MS = 60_000
"""At least so often a campaign that is watched is in a second, so that history knows its start."""
RUNBOOK = "/ops/runbook#"
_ALARMS = {alarm.anchor: alarm.value.words for alarm in Alarm}

log = structlog.get_logger()


@dataclass
class Console:
    """What pages are told from. One a centre."""

    asker: Asker
    books: Books
    keeper: Keeper
    clock: Clock
    joined: Joined = field(default_factory=Joined)
    seconds: deque[Second] = field(default_factory=lambda: deque(maxlen=KEPT_MS // SECOND_MS))
    selected: Counter[str] = field(default_factory=Counter)
    """Campaigns that pages look at, with how many do."""
    readers: Counter[str] = field(default_factory=Counter)
    """Who reads, with how many pages."""
    bounds: list[float] = field(default_factory=bounds)
    _own_notes: deque[Note] = field(default_factory=lambda: deque(maxlen=NOTES_KEPT))
    _sold_out: dict[tuple[str, str], int] = field(default_factory=dict)
    """By campaign and round: as seen here, and not yet read back from the ledger."""
    _alarms_since: dict[tuple[str, str], int] = field(default_factory=dict)
    _seen: dict[str, tuple[int, dict[int, Process]]] = field(default_factory=dict)
    """By address: when it answered last, and which processes there were then."""
    _left: dict[tuple[str, str], int] = field(default_factory=dict)
    _second_at: int = 0
    _fault: str = ""
    _written: dict[str, tuple[Book, int]] = field(default_factory=dict)
    _told: asyncio.Event = field(default_factory=asyncio.Event)
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: list["asyncio.Task[None]"] = field(default_factory=list)

    def start(self) -> None:
        """Once the ledger's schema is ours."""
        self._tasks = [
            asyncio.create_task(self._every(EVERY_MS, self._look_and_tell), name="console"),
            asyncio.create_task(self._every(SECOND_MS, self.look_at_books), name="console books"),
            asyncio.create_task(self._every(SECOND_MS, self.keeper.look), name="console keeper"),
        ]

    async def stop(self) -> None:
        self._stopping.set()
        if self._tasks:  # a connection that is just given back must not be cut
            await asyncio.wait(self._tasks, timeout=STOP_S)
        await end(self._tasks)
        await self.keeper.stop()
        await self.asker.close()

    async def told(self) -> None:
        """Until there is something new, or a little longer than that takes."""
        event = self._told
        try:
            async with asyncio.timeout(2 * EVERY_MS / 1000):
                await event.wait()
        except TimeoutError:
            return

    def failed(self, fault: Exception) -> None:
        """A stream ended by a fault of ours. Its page comes back in a second: said once."""
        if repr(fault) != self._fault:
            self._fault = repr(fault)
            log.error("console_stream_failed", exc_info=fault)

    async def _every(self, pause_ms: int, act: Callable[[], Awaitable[None]]) -> None:
        said = ""
        while not self._stopping.is_set():
            began_ms = self.clock.monotonic_ms()
            try:
                await act()
                said = ""
            except Exception as error:
                if repr(error) != said:  # the loop outlives a fault of ours, said once
                    said = repr(error)
                    log.exception("console_failed")
            took_ms = self.clock.monotonic_ms() - began_ms
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(pause_ms - took_ms, STEP_MS) / 1000):
                    await self._stopping.wait()

    async def _look_and_tell(self) -> None:
        try:
            await self.look()
        finally:
            self._told.set()
            self._told = asyncio.Event()

    async def look(self) -> None:
        """One round of questions."""
        now_ms = self.clock.now_ms()
        self.asker.find()
        before = {url: one.said for url, one in self.asker.asked.items()}
        await self.asker.ask()
        for url, one in self.asker.asked.items():
            if one.part == "gateway" and one.said is not None and one.said is not before[url]:
                self.joined.take(url, one.said.until, one.said.rows)
            elif one.is_down:
                self.joined.gone(url)
            self._look_for_deaths(url, one, now_ms)
        self._note_sold_out(self.joined.close(now_ms))
        self._note_alarms(now_ms)
        self._add_up(now_ms)

    async def look_at_books(self) -> None:
        """The other round: stores may take their time, the parts' news does not wait for them."""
        selected = [one for one in self.selected if one]
        await self.books.look(selected, self.values(), self.clock.now_ms())

    # -- what pages ask for ----------------------------------------------------------------------

    def values(self) -> Values:
        """Of all parts that answer; where several tell an invariant, the worse."""
        found: dict[tuple[str, tuple[str, ...]], float] = {}
        for one in self.asker.asked.values():
            if one.said is None or one.is_down:
                continue
            for name, labels, value in one.said.values:
                key = name, tuple(labels)
                is_light = name == "flashgrab_invariant_ok"
                found[key] = min(value, found.get(key, value)) if is_light else value
        return found

    def alarms(self) -> list[dict[str, Any]]:
        """Those that are on, each with the part that says so."""
        return [
            {
                "alarm": anchor,
                "words": _ALARMS.get(anchor, ""),
                "part": part,
                "since": since_ms,
                "runbook": RUNBOOK + anchor,
            }
            for (anchor, part), since_ms in self._alarms_since.items()
        ]

    def parts(self) -> list[Part]:
        return self.asker.parts()

    def notes(self, campaign_id: str) -> list[dict[str, Any]]:
        """Of the last two minutes: the ledger's, and what is not there yet."""
        about, since_ms = {"", campaign_id}, self.clock.now_ms() - NOTES_MS
        found = {
            note
            for note in (*self.books.notes, *self._own_notes)
            if note.campaign_id in about and note.at_ms >= since_ms
        }
        return [told(note) for note in sorted(found)]

    def campaign(self, campaign_id: str) -> dict[str, Any] | None:
        """Name, status and rounds; None where it is not published, or not known yet."""
        rounds = [self._with_sold_out(r) for r in self.books.rounds if r.campaign_id == campaign_id]
        return described(campaign_id, rounds, self._status(campaign_id))

    def _with_sold_out(self, found: Round) -> Round:
        seen_ms = self._sold_out.get((found.campaign_id, str(found.number)), 0)
        latest_ms = max(seen_ms, found.sold_out_at or 0)
        return found._replace(sold_out_at=latest_ms or None)

    def _status(self, campaign_id: str) -> str:
        standing = self.books.standings.get(campaign_id)
        return standing.status if standing else ""

    # -- what happened ---------------------------------------------------------------------------

    def _look_for_deaths(self, url: str, one: Asked, now_ms: int) -> None:
        if one.failures and not one.is_down:
            return
        now = {} if one.is_down or one.said is None else {p.pid: p for p in one.said.processes}
        seen_ms, before = self._seen.get(url, (0, None))
        self._seen[url] = (now_ms if now else seen_ms), now
        if before is None:
            return
        for pid, process in before.items():
            if pid not in now:
                self._note("died", f"{process.part} {pid}", seen_ms)
        for pid, process in now.items():
            if pid not in before:
                self._note(
                    "started", f"{process.part} {pid}", max(process.up_since_ms, seen_ms + 1)
                )

    def _note_sold_out(self, rows: list[Row]) -> None:
        for row in rows:
            for campaign, lefts in row.left.items():
                for number, left in lefts.items():
                    if left == 0 and self._left.get((campaign, number), 0) > 0:
                        at_ms = row.t + STEP_MS
                        self._sold_out[campaign, number] = at_ms
                        self._note("sold out", f"round {number}", at_ms, campaign)
                    self._left[campaign, number] = left

    def _note_alarms(self, now_ms: int) -> None:
        on = {
            (labels[0], one.said.part)
            for one in self.asker.asked.values()
            if one.said is not None and not one.is_down
            for name, labels, value in one.said.values
            if name == "flashgrab_alarm" and value
        }
        self._alarms_since = {key: self._alarms_since.get(key, now_ms) for key in sorted(on)}

    def _note(self, kind: str, words: str, at_ms: int, campaign_id: str = "") -> None:
        note = Note(at_ms, campaign_id, kind, words)
        self._own_notes.append(note)
        self.keeper.note(note)

    # -- seconds ---------------------------------------------------------------------------------

    def _add_up(self, now_ms: int) -> None:
        """The seconds that are over on the axis."""
        rows = self.joined.since(self._second_at).rows
        if not self._second_at:
            first = rows[0].t if rows else self.joined.until
            self._second_at = first - first % SECOND_MS
        openings = [r.opens_at for r in self.books.rounds]
        while self._second_at + SECOND_MS <= self.joined.until:
            at, self._second_at = self._second_at, self._second_at + SECOND_MS
            if not rows and at + SECOND_MS < now_ms - KEPT_MS:
                continue  # a clock that jumped, or a centre that slept
            ours = [row for row in rows if at <= row.t < at + SECOND_MS]
            second = Second(at)
            for row in ours:
                second.add(row)
            if at >= now_ms - 4 * SECOND_MS:  # else it is older than what the books say
                second.books = self._new_books(at, openings)
            if ours or second.books:
                self.seconds.append(second)
                self.keeper.second(second, ours)

    def _new_books(self, at: int, openings: list[int]) -> dict[str, Book]:
        """Those that changed, or were not told for a while; all of them around an opening."""
        near = is_near(at, openings)
        found = {}
        for campaign_id, book in self.books.now.items():
            before, when = self._written.get(campaign_id, (None, 0))
            if near or book != before or at - when >= SEED_MS:
                found[campaign_id] = book
                self._written[campaign_id] = book, at
        return found


def told(note: Note) -> dict[str, Any]:
    """A note as pages get it."""
    return {"t": note.at_ms, "kind": note.kind, "words": note.words}


def described(campaign_id: str, rounds: list[Round], status: str) -> dict[str, Any] | None:
    """A campaign as pages get it; None where it is not among these rounds."""
    ours = sorted((r for r in rounds if r.campaign_id == campaign_id), key=lambda r: r.number)
    if not ours:
        return None
    return {
        "id": campaign_id,
        "name": ours[0].name,
        "status": status,
        "rounds": [
            {
                "round": r.number,
                "opens_at": r.opens_at,
                "closes_at": r.closes_at,
                "quota": r.quota,
                "sold_out_at": r.sold_out_at,
            }
            for r in ours
        ],
    }


def run_file(data: str) -> Path | None:
    """Where `flashgrab up` says what runs."""
    return Path(data) / "run.json" if data else None


def plain(value: Any) -> Any:
    """Structs as JSON takes them."""
    return msgspec.to_builtins(value)
