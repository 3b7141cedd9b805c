"""Finds the parts and asks them what they have to say; each by itself, none waited for long."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import msgspec

from centre.console.shapes import Part
from flashgrab.clock import Clock
from flashgrab.recent import KEPT_MS, Process, Said, by_our_clock

ANSWER_S_MAX = 1.0
ANSWER_BYTES_MAX = 8 * 1024 * 1024
PARTS_MAX = 64
PARTS = ("gateway", "relay", "worker", "centre")
STORES = ("valkey", "limiter", "kafka", "postgres")
ELSEWHERE = "elsewhere"
"""Of a store that `up` does not run: nobody says how it is."""
GONE_AFTER = 2
"""Questions in a row without an answer after which a part counts as down."""
AHEAD_MS = 500
"""By how much a part's clock must differ from what is known of it before that is known anew: less
is the way of the answer, and would shake the rows."""

_SAID = msgspec.json.Decoder(Said)


@dataclass
class Asked:
    """One address, and what it said last, by our clock. `until`: rows before it were told, by the
    part's own clock, which is `ahead_ms` of ours."""

    url: str
    part: str
    said: Said | None = None
    until: int = 0
    ahead_ms: int = 0
    failures: int = 0
    down: str = ""
    cpu: dict[int, float] = field(default_factory=dict)
    """By pid: share of one CPU between the last two answers."""

    @property
    def is_down(self) -> bool:
        return self.failures >= GONE_AFTER

    def take(self, said: Said, asked_ms: int, answered_ms: int) -> None:
        """A new answer, to what was asked and answered at these moments of our clock."""
        before = {p.pid: p for p in self.said.processes} if self.said else {}
        passed = said.now_ms - self.said.now_ms if self.said else 0
        for process in said.processes:
            earlier = before.get(process.pid)
            if earlier and passed > 0:
                self.cpu[process.pid] = max(0, process.cpu_ms - earlier.cpu_ms) / passed
        self.cpu = {p.pid: self.cpu[p.pid] for p in said.processes if p.pid in self.cpu}
        least, most = said.now_ms - answered_ms, said.now_ms - asked_ms
        if not least - AHEAD_MS <= self.ahead_ms <= most + AHEAD_MS:
            self.ahead_ms = (least + most) // 2
        self.part, self.until = said.part, said.until
        self.said = by_our_clock(said, self.ahead_ms)
        self.failures, self.down = 0, ""

    def fail(self, why: str) -> None:
        """No answer."""
        self.failures += 1
        self.down = why


def addresses(run_file: Path | None, urls: Iterable[str]) -> dict[str, str]:
    """Where /recent is, with the part there as far as that is known: by the setting, else by
    run.json of `flashgrab up`. Raises OSError and ValueError."""
    found = {_recent(url): "" for url in urls}
    if found or run_file is None:
        return found
    for part, objects in json.loads(run_file.read_text()).items():
        for one in objects:
            if part in PARTS and "metrics" in one:
                found[_recent(one["metrics"])] = part
    return dict(list(found.items())[:PARTS_MAX])


def stores(run_file: Path | None) -> list[Part]:
    """The stores of `up`. They have no /recent: only that they are there is known. Raises as
    addresses() does."""
    if run_file is None:
        return []
    found: list[Part] = []
    for name, objects in json.loads(run_file.read_text()).items():
        if name in STORES:
            pids = [one.get("pid") for one in objects]
            found += [Part(name, pid, down="" if pid else ELSEWHERE) for pid in pids]
            found += [] if pids else [Part(name, down="not running")]
    return found


def _recent(url: str) -> str:
    split = urlsplit(url)
    return f"{split.scheme}://{split.netloc}/recent"


class Asker:
    """Asks all of them at once."""

    def __init__(self, run_file: Path | None, urls: tuple[str, ...], clock: Clock) -> None:
        self.run_file = run_file
        self._clock = clock
        self._urls = urls
        self._http = httpx2.AsyncClient(timeout=ANSWER_S_MAX, verify=False)
        self.asked: dict[str, Asked] = {}
        self._stores: list[Part] = []

    async def close(self) -> None:
        await self._http.aclose()

    def find(self) -> None:
        """Look where the parts are. One that `up` starts again keeps its address; while it is
        away, run.json does not list it, and here it is down."""
        try:
            found = addresses(self.run_file, self._urls)
            self._stores = stores(self.run_file)
        except (OSError, ValueError):
            return  # `up` has not written it yet, or is over: what is known stays
        for url, part in found.items():
            self.asked.setdefault(url, Asked(url, part))

    async def ask(self) -> None:
        """Every part, at once."""
        await asyncio.gather(*(self._ask(one) for one in self.asked.values()))

    async def _ask(self, one: Asked) -> None:
        now_ms = self._clock.now_ms()
        since = max(one.until, now_ms + one.ahead_ms - KEPT_MS)
        try:
            answer = await self._http.get(one.url, params={"since": since})
            answer.raise_for_status()
            said = _SAID.decode(answer.content[:ANSWER_BYTES_MAX])
            one.take(said, now_ms, self._clock.now_ms())
        except httpx2.ConnectError:
            one.fail("nobody listens there")
        except httpx2.TimeoutException:
            one.fail("it does not answer")
        except (httpx2.HTTPError, ValueError, msgspec.DecodeError) as error:
            one.fail(str(error)[:120] or type(error).__name__)

    def parts(self) -> list[Part]:
        """All processes that answer, and the parts that do not."""
        found = []
        for one in sorted(self.asked.values(), key=_order):
            if one.is_down or one.said is None:
                found.append(Part(one.part or one.url, down=one.down or "not asked yet"))
            else:
                found += [_part(process, one.cpu) for process in one.said.processes]
        return found + self._stores


def _order(one: Asked) -> tuple[int, str]:
    return PARTS.index(one.part) if one.part in PARTS else len(PARTS), one.url


def _part(process: Process, cpu: dict[int, float]) -> Part:
    return Part(
        process.part,
        process.pid,
        process.version,
        cpu.get(process.pid),
        process.memory,
        process.connections,
        process.up_since_ms,
    )
