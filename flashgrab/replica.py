"""Whether a replica has what Redis has answered: what a campaign with `durability = "replica"`
waits for.

WAIT asks about the writes of its own connection only (Valkey 9; Redis 7.0 asks about everybody's),
so behind a replay, which writes nothing, it would say yes at once. Therefore one connection of its
own first puts a mark behind everything that was answered before: a PUBLISH that nobody hears goes
to the replicas and not to the disk. One WAIT then answers for all that asked meanwhile, of all
campaigns, and blocks nobody's script calls.

Until a server has had its first replica there is no replication stream: the mark goes nowhere, and
WAIT counts a replica whose first copy is still on its way. So a WAIT counts only where INFO said,
before the mark, that there is a stream.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from flashgrab import keys
from flashgrab.errors import StoreUnavailable
from flashgrab.wire import Wire

REPLICAS = 1
WAIT_MS = 400
"""Silence of all replicas, or of Redis itself, for so long: there is none. Well below the second in
which a wire wants its own probe, behind this WAIT, answered (Redis ends a WAIT 100 ms late)."""
LATE_MS = 1000
"""For the answers themselves."""
REST_MS = 1000
"""Between two looks while nobody asks."""
AGAIN_MS = 50
"""After one that did not succeed."""

AWAY = f"no replica has confirmed within {WAIT_MS} ms"
CLUSTER = "Redis runs as a cluster, where marks do not reach replicas"


class _Asked(NamedTuple):
    """Somebody who waits: until a replica has all that this run of the server answered him."""

    run_id: str
    told: "asyncio.Future[None]"


class Replica:
    """Asks from start() to stop(). `is_away` is what was seen last; `judged` is set once something
    was. `on_change(is_away, why)` is called at the first look and at every change."""

    def __init__(self, url: str, on_change: Callable[[bool, str], None]) -> None:
        self._wire = Wire(url, (), self._connected, lambda _now_ms: None)
        self._on_change = on_change
        self._asked: list[_Asked] = []
        self._looking = False
        self._next: asyncio.TimerHandle | None = None
        self._has_stream = False  # as seen on this connection
        self._silent_since: float | None = None  # without an answer of Redis at all
        self._is_on = False
        self.judged = asyncio.Event()
        self.is_away = False

    def start(self) -> None:
        """Does nothing where it was started before."""
        if not self._is_on:
            self._is_on = True
            self._wire.start()
            self._look_in(0)

    async def stop(self) -> None:
        """Whoever still waits is told that nobody knows."""
        self._is_on = False
        if self._next is not None:
            self._next.cancel()
        await self._wire.stop()
        for asked in self._asked:
            _fail(asked.told, "the gateway stops")

    def has_all(self, run_id: str, timeout_ms: int) -> "asyncio.Future[None]":
        """Done when a replica has everything that this run has answered so far.

        Raises StoreUnavailable: at once while no replica is there, else after `timeout_ms`, and
        where another server has taken this one's place.
        """
        loop = asyncio.get_running_loop()
        told: asyncio.Future[None] = loop.create_future()
        if self.is_away:
            _fail(told, AWAY)
            return told
        late = loop.call_later(timeout_ms / 1000, _fail, told, "no replica has it in time")
        told.add_done_callback(lambda _told: late.cancel())
        self._asked.append(_Asked(run_id, told))
        if not self._looking:
            self._look_in(0)
        return told

    async def read(self, timeout_ms: int, *command: str) -> Any:
        """The answer to a command that writes nothing, once a replica has all that it may show."""
        run_id = self._wire.run_id
        answer = await self._wire.send(timeout_ms, *command)
        await self.has_all(run_id, timeout_ms)
        return answer

    # -- one look after the other ----------------------------------------------------------------

    def _look_in(self, pause_ms: int) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._is_on and not pause_ms:
            self._look()
        elif self._is_on:
            loop = asyncio.get_running_loop()
            self._next = loop.call_later(pause_ms / 1000, self._look)

    def _connected(self, _run_id: str) -> None:
        self._has_stream = False

    def _look(self) -> None:
        """Mark, and wait for the mark; who asks from here on is in the next look."""
        self._next, run_id = None, self._wire.run_id
        try:
            said = []
            if not self._has_stream:
                said.append(self._wire.send(LATE_MS, "INFO", "replication", "cluster"))
            said.append(self._wire.send(LATE_MS, "PUBLISH", keys.MARKS, ""))
            reached = self._wire.send(LATE_MS, "WAIT", REPLICAS, WAIT_MS)
        except StoreUnavailable as error:
            self._hear_nothing(str(error))
            self._look_in(AGAIN_MS)
            return
        self._looking = True
        asked, self._asked = self._asked, []
        reached.add_done_callback(partial(self._seen, asked, run_id, [*said, reached]))

    def _seen(
        self,
        asked: list[_Asked],
        run_id: str,
        said: "list[asyncio.Future[Any]]",
        _reached: "asyncio.Future[Any]",
    ) -> None:
        self._looking = False
        errors = [error for error in (one.exception() for one in said) if error is not None]
        if errors and isinstance(errors[0], StoreUnavailable):
            self._hear_nothing(str(errors[0]))
            is_reached = False
        else:
            self._silent_since = None
            why = str(errors[0]) if errors else self._judge([one.result() for one in said])
            self._note(why)
            is_reached = not why
        if not is_reached:
            self._asked = [one for one in asked if not one.told.done()] + self._asked
            self._look_in(AGAIN_MS)
            return
        for one in asked:
            if one.run_id != run_id:
                _fail(one.told, "another server has taken the place of the one that was asked")
            elif not one.told.done():
                one.told.set_result(None)
        self._look_in(0 if self._asked else REST_MS)

    def _judge(self, said: list[Any]) -> str:
        """Why this look shows no replica, "" where it shows one."""
        *info, _, reached = said
        if info:
            if b"cluster_enabled:0" not in info[0]:
                return CLUSTER
            self._has_stream = b"repl_backlog_active:1" in info[0]
        return "" if self._has_stream and reached >= REPLICAS else AWAY

    def _hear_nothing(self, why: str) -> None:
        """Redis itself is away: for a moment that says nothing of its replicas."""
        now = asyncio.get_running_loop().time()
        if self._silent_since is None:
            self._silent_since = now
        elif now - self._silent_since > WAIT_MS / 1000:
            self._note(why)

    def _note(self, why: str) -> None:
        was, self.is_away = self.is_away, bool(why)
        if self._is_on and (was != self.is_away or not self.judged.is_set()):
            self._on_change(self.is_away, why)
        self.judged.set()


def _fail(told: "asyncio.Future[None]", why: str) -> None:
    if not told.done():
        told.set_exception(StoreUnavailable(why))
