"""Records in the bytes of Kafka's log: what one record is, and a batch of them (format 2).

Source: https://kafka.apache.org/documentation/#recordbatch. aiokafka's own builder takes 1.8 µs a
fact with its six headers, which are the same for a whole outbox entry but for one; packed once an
entry, a fact costs 0.4 here. A test compares the bytes of the two.
"""

from collections.abc import Iterator, Sequence
from struct import Struct

from aiokafka.record.util import calc_crc32c

from flashgrab.broker.records import Record

_HEADER = Struct(">qiibIhiqqqhii")
_AFTER_LENGTH = 12  # bytes before the part that the length counts
_CRC_AT = 17
_CRC = Struct(">I")
_CHECKED_FROM = 21
_NO_EPOCH = -1
_MAGIC = 2

Packed = tuple[bytes, bytes, int]
"""A record without its place in a batch: its key; its bytes from the length of the key to the last
header; its time in ms. A plain tuple: one with names takes 0.25 µs to make."""


def varint(value: int) -> bytes:
    """A signed number, zigzag."""
    left = (value << 1) ^ (value >> 63)
    found = bytearray()
    while left > 0x7F:
        found.append(0x80 | left & 0x7F)
        left >>= 7
    found.append(left)
    return bytes(found)


SIZES = [varint(length) for length in range(16_384)]
"""The varints of the usual lengths."""


def pack(record: Record) -> Packed:
    """Any record."""
    key, value, headers, timestamp_ms = record
    pieces = [varint(len(key)), key, varint(len(value)), value, varint(len(headers))]
    return key, b"".join(pieces) + packed_headers(headers), timestamp_ms


def packed_headers(headers: Sequence[tuple[str, bytes]]) -> bytes:
    """Headers without their number."""
    pieces = []
    for name, value in headers:
        raw = name.encode()
        pieces += [varint(len(raw)), raw, varint(len(value)), value]
    return b"".join(pieces)


class PackedBatch:
    """A batch as aiokafka's sender wants it: the part of its BatchBuilder that it calls."""

    def __init__(self, records: bytes, count: int, first_ms: int, most_ms: int) -> None:
        self._records = records
        self._count = count
        self._times_ms = first_ms, most_ms
        self._producer = (-1, -1, 0)  # id, epoch, sequence of the first record
        self._built: bytearray | None = None

    def _set_producer_state(self, producer_id: int, epoch: int, sequence: int) -> None:
        self._producer = producer_id, epoch, sequence

    def _build(self) -> bytearray:
        if self._built is None:
            length = _HEADER.size + len(self._records) - _AFTER_LENGTH
            last = self._count - 1
            head = (0, length, _NO_EPOCH, _MAGIC, 0, 0, last, *self._times_ms, *self._producer)
            built = bytearray(_HEADER.pack(*head, self._count))
            built += self._records
            _CRC.pack_into(built, _CRC_AT, calc_crc32c(memoryview(built)[_CHECKED_FROM:]))
            self._built = built
        return self._built

    def size(self) -> int:
        """Bytes."""
        return _HEADER.size + len(self._records)

    def record_count(self) -> int:
        """Records."""
        return self._count

    def close(self) -> None:
        """It is closed from the start."""

    def closed(self) -> bool:
        """Always."""
        return True


def batches(records: Sequence[Packed], bytes_max: int) -> Iterator[PackedBatch]:
    """The records in order, in batches of at most so many bytes, but at least one record each."""
    start, left = 0, bytes_max
    for at, (_, body, _) in enumerate(records):
        # the most that length, attributes, time and place can add to the body
        left -= len(body) + _AROUND_MAX
        if left < _HEADER.size and at > start:
            yield _batch(records[start:at])
            start, left = at, bytes_max - len(body) - _AROUND_MAX
    if records:
        yield _batch(records[start:])


_AROUND_MAX = 5 + 1 + 10 + 5


def _batch(records: Sequence[Packed]) -> PackedBatch:
    first_ms = most_ms = before_ms = records[0][2]
    sizes, ready = SIZES, len(SIZES)
    delta = b"\0\0"  # attributes, and the time since the first record
    pieces: list[bytes] = []
    for at, (_, body, at_ms) in enumerate(records):
        if at_ms != before_ms:
            before_ms, most_ms = at_ms, max(most_ms, at_ms)
            delta = b"\0" + varint(at_ms - first_ms)
        place = sizes[at] if at < ready else varint(at)
        length = len(delta) + len(place) + len(body)
        pieces += (sizes[length] if length < ready else varint(length), delta, place, body)
    return PackedBatch(b"".join(pieces), len(records), first_ms, most_ms)
