"""Spans by OpenTelemetry, sent by OTLP over HTTP. The only module that knows it; `tracing` loads it
where traces are switched on.

What is traced is decided before (gateway/traced.py), so everything that comes here is kept.
"""

import logging
import threading
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, StatusCode

from flashgrab import __version__
from flashgrab.tracing import Attributes, Kind, is_traceparent

QUEUE_MAX = 2048
"""Spans that wait to be sent; past it the oldest are dropped."""
SEND_MS = 1000
EXPORT_S = 2
"""For one attempt; what can't be sent is dropped."""
FLUSH_MS, CLOSE_S = 2000, 3
"""For what is left at the end, and for all of the end."""

KINDS: dict[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}


class OtelSpan:
    """One span."""

    def __init__(self, span: trace.Span) -> None:
        self._span = span

    @property
    def traceparent(self) -> str:
        context = self._span.get_span_context()
        flags = int(context.trace_flags)
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{flags:02x}"

    def put(self, name: str, value: str | int) -> None:
        self._span.set_attribute(name, value)

    def fail(self, error: BaseException) -> None:
        self._span.set_attribute("error.type", type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR, str(error)[:200]))

    def end(self) -> None:
        self._span.end()


class OtelTracer:
    """The tracer of one process; spans leave it from a thread of their own."""

    def __init__(self, url: str, part: str) -> None:
        # A collector that is away is nothing that an operator of the sale is called for.
        logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
        names = {"service.name": f"flashgrab-{part}", "service.version": __version__}
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=Resource.create(names), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                OTLPSpanExporter(endpoint=url, timeout=EXPORT_S),
                max_queue_size=QUEUE_MAX,
                schedule_delay_millis=SEND_MS,
            )
        )
        self._tracer = self._provider.get_tracer("flashgrab", __version__)

    def begin(
        self,
        name: str,
        kind: Kind,
        parent: str | None,
        attributes: Attributes,
        links: Sequence[str] = (),
    ) -> OtelSpan:
        found = [context for link in links if (context := _context(link)) is not None]
        span = self._tracer.start_span(
            name,
            context=_within(parent),
            kind=KINDS[kind],
            attributes=attributes,
            links=[Link(context) for context in found],
        )
        return OtelSpan(span)

    def close(self) -> None:
        """Send what is left, where a collector takes it in time: the part is to end."""
        closing = threading.Thread(target=self._close, name="traces", daemon=True)
        closing.start()
        closing.join(CLOSE_S)

    def _close(self) -> None:
        self._provider.force_flush(FLUSH_MS)
        self._provider.shutdown()


def _within(parent: str | None) -> Context:
    """The context of a child; of none where there is no parent: never what is current here."""
    context = _context(parent or "")
    if context is None:
        return Context()
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def _context(traceparent: str) -> SpanContext | None:
    if not is_traceparent(traceparent):
        return None
    _, trace_id, span_id, flags = traceparent.split("-")
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=trace.TraceFlags(int(flags, 16)),
    )
