"""A fact, in its two forms on the way: a line of an outbox entry, and a Kafka message."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from flashgrab.clock import to_rfc3339
from flashgrab.ids import grab_id

Kind = Literal["grab.granted", "grab.returned"]
KINDS: dict[str, Kind] = {"g": "grab.granted", "r": "grab.returned"}


class Fact(msgspec.Struct, frozen=True, kw_only=True):
    """The value of a message on flashgrab.grabs (contract §5); times are ms since 1970, UTC."""

    event: Kind
    version: int = 1
    seq: int
    grab_id: str
    campaign_id: str
    serial: int
    user_id: str
    device_id: str
    round: int
    request_id: str
    epoch: int
    at_ms: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Fact)


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """One entry of the outbox: the facts of one script call, seqs first…last without a gap."""

    first_seq: int
    last_seq: int
    epoch: int
    at_ms: int
    lines: str
    trace: str = ""
    """Which of its facts are traced (flashgrab/tracing.py); mostly none."""

    @classmethod
    def read(cls, entry_id: str, fields: Mapping[str, str]) -> "OutboxEntry":
        """From a stream entry as grab.lua writes it. Raises ValueError or KeyError otherwise."""
        last, _, part = entry_id.partition("-")
        if part != "0":
            raise ValueError(f"entry id {entry_id!r} is not <last seq>-0")
        last_seq = int(last)
        first_seq, epoch, at_ms = int(fields["first"]), int(fields["epoch"]), int(fields["at_ms"])
        return cls(first_seq, last_seq, epoch, at_ms, fields["facts"], fields.get("trace", ""))

    def facts(self, campaign_id: str) -> Iterator[Fact]:
        """The facts in seq order. Raises ValueError, before the first fact where their number
        does not fit the seqs."""
        lines = self.lines.split(";")
        if len(lines) != self.last_seq - self.first_seq + 1:
            raise ValueError(
                f"outbox entry {self.last_seq} of {campaign_id} holds {len(lines)} facts,"
                f" its seqs say {self.last_seq - self.first_seq + 1}"
            )
        for seq, line in enumerate(lines, self.first_seq):
            kind, serial, number, user_id, device_id, request_id = line.split(",")
            if kind not in KINDS:
                raise ValueError(f"outbox entry {self.last_seq} of {campaign_id}: kind {kind!r}")
            yield Fact(
                event=KINDS[kind],
                seq=seq,
                grab_id=grab_id(campaign_id, int(serial)),
                campaign_id=campaign_id,
                serial=int(serial),
                user_id=user_id,
                device_id=device_id,
                round=int(number),
                request_id=request_id,
                epoch=self.epoch,
                at_ms=self.at_ms,
            )


@dataclass(frozen=True, slots=True)
class TornEntry:
    """An entry of the outbox that does not have the form that grab.lua writes; `why` says how."""

    entry_id: str
    last_seq: int
    why: str


Entry = OutboxEntry | TornEntry


def read_entry(entry_id: str, fields: Mapping[str, str]) -> Entry:
    """A stream entry, torn or not: one bad entry must not hide the others."""
    try:
        return OutboxEntry.read(entry_id, fields)
    except (ValueError, KeyError) as error:
        return TornEntry(entry_id, int(entry_id.partition("-")[0]), repr(error)[:200])


def encode(fact: Fact) -> bytes:
    """The message value: compact JSON."""
    return _encoder.encode(fact)


def decode(value: bytes) -> Fact:
    """The fact of a message value. Raises msgspec.DecodeError on anything else."""
    try:
        return _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def cloud_headers(fact: Fact, source: str) -> list[tuple[str, bytes]]:
    """CloudEvents 1.0 headers, Kafka binary mode."""
    kind = fact.event
    return [
        ("ce_specversion", b"1.0"),
        ("ce_id", f"{fact.campaign_id}-{fact.epoch}-{fact.seq}".encode()),
        ("ce_source", source.encode()),
        ("ce_type", f"io.flashgrab.{kind}.v1".encode()),
        ("ce_time", to_rfc3339(fact.at_ms).encode()),
        ("content-type", b"application/json"),
    ]
