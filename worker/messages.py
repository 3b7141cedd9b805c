"""Outbox entries as the messages of flashgrab.grabs. Pure."""

import re
from collections.abc import Sequence

from flashgrab.broker import Headers, Record
from flashgrab.clock import to_rfc3339
from flashgrab.events import Kind, OutboxEntry, encode
from flashgrab.tracing import HEADER, read_traces

SOURCE = b"flashgrab/relay"


Ranges = Sequence[tuple[int, int]]
"""Seqs from…to, both included."""


def messages(campaign_id: str, entry: OutboxEntry, ranges: Ranges | None = None) -> list[Record]:
    """One message a fact, in seq order; with `ranges` only the facts whose seqs are in one.

    Raises ValueError where the entry is torn.
    """
    time = to_rfc3339(entry.at_ms).encode()
    traces = read_traces(entry.trace)
    return [
        Record(
            fact.user_id.encode(),
            encode(fact),
            headers(fact.event, f"{campaign_id}-{fact.epoch}-{fact.seq}".encode(), time)
            + traced(traces.get((fact.user_id, fact.request_id))),
            entry.at_ms,
        )
        for fact in entry.facts(campaign_id)
        if ranges is None or any(first <= fact.seq <= last for first, last in ranges)
    ]


def headers(event: Kind, event_id: bytes, time: bytes) -> Headers:
    """What events.cloud_headers gives, with the time of the entry formatted once."""
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id),
        ("ce_source", SOURCE),
        ("ce_type", f"io.flashgrab.{event}.v1".encode()),
        ("ce_time", time),
        ("content-type", b"application/json"),
    ]


def traced(traceparent: str | None) -> Headers:
    """The header of a fact that is traced; the last one, which is where the worker looks."""
    return [(HEADER, traceparent.encode())] if traceparent else []


def read_ranges(text: str) -> list[tuple[int, int]]:
    """settle.lua's "from-to,from-to"; what has another form is left out."""
    found = re.findall(r"(?:^|,)([0-9]{1,14})-([0-9]{1,14})(?=,|$)", text, re.ASCII)
    return [(int(first), int(last)) for first, last in found]
