"""Spans of relay and worker, where traces are switched on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from flashgrab import keys
from flashgrab.broker import Records
from flashgrab.events import OutboxEntry
from flashgrab.tracing import (
    HEADER,
    TRACED_MAX,
    Attributes,
    Span,
    Tracer,
    begin_all,
    ending,
    is_traceparent,
    read_traces,
    write_traces,
)


def _messaging(operation: str, messages: int) -> Attributes:
    return {
        "messaging.system": "kafka",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": keys.GRABS_TOPIC,
        "messaging.batch.message_count": messages,
    }


def sending(tracer: Tracer, campaign_id: str, entry: OutboxEntry) -> tuple[OutboxEntry, list[Span]]:
    """A span for each traced fact of an entry, and the entry that hands them on."""
    traces = read_traces(entry.trace)
    facts = entry.last_seq - entry.first_seq + 1
    attributes: dict[str, str | int] = {
        **_messaging("send", facts),
        "flashgrab.campaign": campaign_id,
        "flashgrab.seq": entry.last_seq,
    }
    name = f"send {keys.GRABS_TOPIC}"
    spans = begin_all(tracer, name, "producer", list(traces.values()), attributes)
    handed = {place: s.traceparent for place, s in zip(traces, spans, strict=True)}
    return replace(entry, trace=write_traces(handed)), spans


def traced_in(fetched: Mapping[int, Records]) -> list[str]:
    """The traceparents of what was fetched."""
    found = [
        value.decode("latin-1")
        for records in fetched.values()
        for value in records.last_headers(HEADER)
    ]
    return [text for text in found if is_traceparent(text)]


@contextmanager
def processing(tracer: Tracer | None, traces: Sequence[str], facts: int) -> Iterator[None]:
    """The block writes so many facts into the ledger, of which these are traced: at most TRACED_MAX
    are, since the spans of a transaction that may have 10,000 facts are made at once."""
    if tracer is None or not traces:
        yield
        return
    traces = traces[:TRACED_MAX]
    attributes: dict[str, str | int] = {
        **_messaging("process", facts),
        "messaging.consumer.group.name": keys.PERSIST_GROUP,
    }
    begun = begin_all(tracer, f"process {keys.GRABS_TOPIC}", "consumer", traces, attributes)
    with ending(begun):
        writing = begin_all(
            tracer,
            "INSERT coupons",
            "client",
            [span.traceparent for span in begun],
            {
                "db.system.name": "postgresql",
                "db.operation.name": "INSERT",
                "db.collection.name": "coupons",
                "db.operation.batch.size": facts,
            },
        )
        with ending(writing):
            yield
