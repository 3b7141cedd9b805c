"""What goes into a topic and what comes out of it."""

import hashlib
from collections.abc import Sequence
from struct import Struct
from typing import Any, NamedTuple, overload

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


class Records(Sequence[Received]):
    """Records of one partition, in order; each is made when it is looked at.

    aiokafka's C records stay as they are: a ConsumerRecord of aiokafka and a Received for each
    would take 4 µs of the worker's CPU, which wants two columns.
    """

    def __init__(self, raw: Sequence[Any]) -> None:
        self._raw = raw

    def __len__(self) -> int:
        return len(self._raw)

    @overload
    def __getitem__(self, at: int) -> Received: ...
    @overload
    def __getitem__(self, at: slice) -> "Records": ...
    def __getitem__(self, at: int | slice) -> "Received | Records":
        if isinstance(at, slice):
            return Records(self._raw[at])
        r = self._raw[at]
        return Received(r.offset, r.timestamp, r.key, r.value, tuple(r.headers))

    @property
    def keys(self) -> list[bytes]:
        """Every key, b"" for none."""
        return [record.key or b"" for record in self._raw]

    @property
    def values(self) -> list[bytes]:
        """Every value, b"" for none."""
        return [record.value or b"" for record in self._raw]

    def last_headers(self, name: str) -> list[bytes]:
        """The values of those records whose last header has this name."""
        found = [record.headers[-1] for record in self._raw if record.headers]
        return [value for key, value in found if key == name]


def fingerprint(record: Received) -> bytes:
    """What tells this record from another at the same offset: 16 bytes of BLAKE2s."""
    key, value = record.key or b"", record.value or b""
    head = _FINGERPRINTED(record.offset, record.timestamp_ms, len(key))
    return hashlib.blake2s(head + key + value, digest_size=FINGERPRINT_BYTES).digest()
