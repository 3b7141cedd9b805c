"""How a trace goes on from part to part, and what a part needs of a tracer. Knows no library: the
one that makes spans (flashgrab/otel.py, extra `otel`) is loaded only where traces are switched on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal, Protocol

HEADER = "traceparent"
LINKS_MAX = 16
"""Other traces that a span of something shared is linked to."""
TRACED_MAX = 64
"""Traced grabs of one script call, and facts of one transaction; the traces of others end there."""

is_traceparent = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}").fullmatch

Kind = Literal["server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int]
Request = tuple[str, str]
"""User and request id: what a traced grab is known by."""


class Span(Protocol):
    """A step of a trace, begun."""

    @property
    def traceparent(self) -> str:
        """What makes a later step its child (W3C trace context)."""
        ...

    def put(self, name: str, value: str | int) -> None:
        """One more attribute."""
        ...

    def fail(self, error: BaseException) -> None:
        """It ends badly."""
        ...

    def end(self) -> None:
        """It is over; from now on it may be sent."""
        ...


class Tracer(Protocol):
    """Makes spans and sends them somewhere."""

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes,
        links: Sequence[str] = (),
    ) -> Span:
        """A span, child of the traceparent or the first of a trace."""
        ...

    def close(self) -> None:
        """Send what is left, within some seconds."""
        ...


@contextmanager
def tracing(url: str, part: str) -> Iterator[Tracer | None]:
    """A tracer for the block, None without an address."""
    if not url:
        yield None
        return
    from flashgrab.otel import OtelTracer

    tracer = OtelTracer(url, part)
    try:
        yield tracer
    finally:
        tracer.close()


def begin_all(
    tracer: Tracer, name: str, kind: Kind, parents: Sequence[str], attributes: Attributes
) -> list[Span]:
    """What several traces share is a span in each of them, linked to the others."""
    shown = parents[: LINKS_MAX + 1]
    return [
        tracer.begin(name, kind, parent, attributes, [p for p in shown if p != parent][:LINKS_MAX])
        for parent in parents
    ]


@contextmanager
def ending(spans: Sequence[Span]) -> Iterator[None]:
    """Spans end with the block, badly where it raises."""
    try:
        yield
    except BaseException as error:
        for span in spans:
            span.fail(error)
        raise
    finally:
        for span in spans:
            span.end()


def write_traces(traces: Mapping[Request, str]) -> str:
    """As they stand in an outbox entry (lua/README.md). Ids have neither comma nor semicolon."""
    return ";".join(f"{user},{request},{parent}" for (user, request), parent in traces.items())


def read_traces(text: str) -> dict[Request, str]:
    """The traceparents of an outbox entry; what has another form is left out."""
    if not text:
        return {}
    parts = [part.split(",") for part in text.split(";")]
    return {(p[0], p[1]): p[2] for p in parts if len(p) == 3 and is_traceparent(p[2])}
