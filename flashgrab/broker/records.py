"""What goes into a topic and what comes out of it."""

import hashlib
from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

Headers = list[tuple[str, bytes]]  # a list and nothing else: aiokafka's encoder insists

FINGERPRINT_BYTES = 16
_FINGERPRINTED = Struct(">qqi").pack  # offset, timestamp, length of the key


class Record(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


class Received(NamedTuple):
    """A record as it stands in a partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def fingerprint(record: Received) -> bytes:
    """What tells this record from another at the same offset: 16 bytes of BLAKE2s."""
    key, value = record.key or b"", record.value or b""
    head = _FINGERPRINTED(record.offset, record.timestamp_ms, len(key))
    return hashlib.blake2s(head + key + value, digest_size=FINGERPRINT_BYTES).digest()
