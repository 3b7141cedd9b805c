"""Traces of grabs, where they are switched on; nothing of this is loaded otherwise.

The lane declines the grabs that are to be traced. They take the ordinary way, which answers the
same and has room for spans: one of the request, one of the script call that carried it. The call
hands the trace on through the outbox.
"""

import asyncio
import re
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flashgrab.scripts import GRAB, Script
from flashgrab.telemetry import Metrics
from flashgrab.tracing import (
    TRACED_MAX,
    Request,
    Span,
    Tracer,
    begin_all,
    ending,
    is_traceparent,
    write_traces,
)
from flashgrab.wire import Calls
from gateway.batch import Batcher
from gateway.call import Bounds
from gateway.campaigns import Campaign
from gateway.decisions import Decision
from gateway.lane import Lane
from gateway.memory import Memory
from gateway.plain import GRABS
from gateway.redis_clock import RedisClock

TRACED = "flashgrab.traced"
"""Where the scope says that the lane has declined a request for its trace."""
PER_SECOND_MAX = 100
"""Traced grabs a second of one process: anybody can ask for a trace, and it costs as much as
several grabs."""
NAME = "POST /v1/campaigns/{id}/grabs"
HEAD = len(GRAB.args)

_in_head = re.compile(
    rb"\r\n[Tt]raceparent:[ \t]*00-[0-9a-f]{32}-[0-9a-f]{16}-([0-9a-f]{2})[ \t]*\r\n"
).search
_current: ContextVar[Span | None] = ContextVar("flashgrab.traced", default=None)


class Sampler:
    """Which grabs are traced: those whose caller traces them, and one of `every` of the others."""

    def __init__(
        self,
        every: int,
        per_second: int = PER_SECOND_MAX,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._every = every
        self._per_second = per_second
        self._now = now
        self._seen = 0
        self._second = 0
        self._taken = 0

    def takes(self, head: bytes) -> bool:
        """Of a plain grab in the bytes of a connection."""
        found = _in_head(head)
        if found is not None:
            return bool(int(found[1], 16) & 1) and self._has_room()
        self._seen += 1
        return bool(self._every) and self._seen % self._every == 0 and self._has_room()

    def asked(self, traceparent: str) -> bool:
        """Of a grab that was not plain."""
        return bool(traceparent) and bool(int(traceparent[-2:], 16) & 1) and self._has_room()

    def _has_room(self) -> bool:
        second = int(self._now())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= self._per_second


class Declining(Lane):
    """A lane that leaves the grabs to be traced to the ordinary way. No slots of its own, so that
    it stands behind Proxied, too."""

    __slots__ = ()
    sampler: Sampler
    _chosen = False

    def _alike(self, data: bytes) -> bool:
        self._chosen = data.startswith(GRABS) and self.sampler.takes(data)
        return not self._chosen and super()._alike(data)

    def _take(self, data: bytes) -> bool:
        return not self._chosen and super()._take(data)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self.scope[TRACED] = self._chosen  # type: ignore[literal-required]
        self._chosen = False


class Traces:
    """What one gateway process traces, and by what."""

    def __init__(self, tracer: Tracer, sampler: Sampler) -> None:
        self.tracer = tracer
        self.sampler = sampler

    def middleware(self) -> Middleware:
        """What makes the span of a request."""
        return Middleware(TracedGrabs, self)

    def declining(self, inner: type[Lane]) -> type[Lane]:
        """A lane of this kind that declines what is to be traced."""
        bases = (Declining,) if inner is Lane else (inner, Declining)
        return type("Sampled", bases, {"__slots__": (), "sampler": self.sampler})

    def batcher(
        self,
        campaign: Campaign,
        wire: Calls,
        clock: RedisClock,
        bounds: Bounds,
        metrics: Metrics,
        memory: Memory,
    ) -> Batcher:
        """Batches whose calls know which of their grabs are traced."""
        waiting: dict[tuple[bytes, bytes], Span] = {}
        calls = TracedCalls(wire, self.tracer, waiting)
        return TracedBatcher(waiting, campaign, calls, clock, bounds, metrics, memory)


class TracedGrabs:
    """Pure ASGI: the span of a grab's request."""

    def __init__(self, app: ASGIApp, traces: Traces) -> None:
        self._app = app
        self._traces = traces

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _is_grab(scope):
            await self._app(scope, receive, send)
            return
        parent = _parent(scope)
        if not (scope.get(TRACED) or self._traces.sampler.asked(parent)):
            await self._app(scope, receive, send)
            return
        span = self._traces.tracer.begin(
            NAME,
            "server",
            parent or None,
            {
                "http.request.method": "POST",
                "http.route": "/v1/campaigns/{campaign_id}/grabs",
                "url.scheme": scope["scheme"],
                "url.path": scope["path"][:200],
            },
        )

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                span.put("http.response.status_code", message["status"])
            await send(message)

        before = _current.set(span)
        try:
            with ending([span]):
                await self._app(scope, receive, sending)
        finally:
            _current.reset(before)


class TracedBatcher(Batcher):
    """Remembers the span of a grab while it waits, for the call that carries it."""

    def __init__(self, waiting: dict[tuple[bytes, bytes], Span], *given: Any) -> None:
        super().__init__(*given)
        self._traced = waiting

    def submit(
        self, user_id: str, device_id: str, key: str, since: float | None = None
    ) -> "asyncio.Future[Decision]":
        span = _current.get()
        if span is None:
            return super().submit(user_id, device_id, key, since)
        place = (user_id.encode(), key.encode())
        self._traced[place] = span
        future = super().submit(user_id, device_id, key, since)
        future.add_done_callback(lambda _: self._traced.pop(place, None))
        return future


class TracedCalls(Calls):
    """Script calls as another makes them; those that carry a traced grab are spans."""

    def __init__(
        self, calls: Calls, tracer: Tracer, waiting: dict[tuple[bytes, bytes], Span]
    ) -> None:
        self._calls = calls
        self._tracer = tracer
        self._waiting = waiting

    @property
    def connected(self) -> asyncio.Event:
        return self._calls.connected

    @property
    def run_id(self) -> str:
        return self._calls.run_id

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        spans, args = self._begin(script, args)
        if not spans:
            return self._calls.call(script, keys, args, timeout_ms)
        try:
            answer = self._calls.call(script, keys, args, timeout_ms)
        except BaseException as error:
            _end(spans, error)
            raise
        answer.add_done_callback(partial(_heard, spans))
        return answer

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        spans, args = self._begin(script, args)
        with ending(spans):
            return await self._calls.run(script, keys, args, timeout_ms)

    def _begin(self, script: Script, args: list[Any]) -> tuple[list[Span], list[Any]]:
        """A span for each traced grab among these, and the arguments with their traces."""
        if not self._waiting:
            return [], args
        asked = zip(args[HEAD::3], args[HEAD + 2 :: 3], strict=True)
        found = [(place, self._waiting[place]) for place in asked if place in self._waiting]
        if not found:
            return [], args
        found = found[:TRACED_MAX]
        spans = begin_all(
            self._tracer,
            "EVALSHA",
            "client",
            [span.traceparent for _, span in found],
            {
                "db.system.name": "redis",
                "db.operation.name": "EVALSHA",
                "db.operation.batch.size": (len(args) - HEAD) // 3,
                "db.stored_procedure.name": script.sha,
            },
        )
        traces: dict[Request, str] = {
            (user.decode(), request.decode()): span.traceparent
            for ((user, request), _), span in zip(found, spans, strict=True)
        }
        return spans, [*args, write_traces(traces)]


def _is_grab(scope: Scope) -> bool:
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path.startswith("/v1/campaigns/") and path.endswith("/grabs")


def _parent(scope: Scope) -> str:
    """The caller's one traceparent, "" without one."""
    found = [value for name, value in scope["headers"] if name == b"traceparent"]
    text = found[0].decode("latin-1") if len(found) == 1 else ""
    return text if is_traceparent(text) else ""


def _heard(spans: Sequence[Span], call: "asyncio.Future[Any]") -> None:
    _end(spans, asyncio.CancelledError() if call.cancelled() else call.exception())


def _end(spans: Sequence[Span], error: BaseException | None) -> None:
    for span in spans:
        if error is not None:
            span.fail(error)
        span.end()
