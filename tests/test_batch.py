"""broker/batch.py: records and batches in the bytes of Kafka's log, against aiokafka's own."""

import hypothesis.strategies as st
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import encode_varint
from hypothesis import given

from flashgrab.broker import Record, pack, varint
from flashgrab.broker.batch import batches

AT_MS = 1_790_000_000_000
headers = st.lists(st.tuples(st.text(max_size=9), st.binary(max_size=200)), max_size=4)
records = st.builds(
    Record,
    st.binary(max_size=80),
    st.binary(max_size=500) | st.just(b"x" * 20_000),
    headers,
    st.integers(AT_MS - 10**10, AT_MS + 10**10) | st.just(AT_MS),
)


@given(st.integers(-(2**62), 2**62))
def test_varint_is_kafkas(value: int) -> None:
    """The bytes of a number are those that aiokafka writes."""
    wanted = bytearray()
    encode_varint(value, wanted.append)
    assert varint(value) == wanted


@given(st.lists(records, min_size=1, max_size=30), st.integers(-1, 10**9), st.integers(0, 10**9))
def test_a_batch_has_the_bytes_of_aiokafkas(
    wanted: list[Record], producer_id: int, sequence: int
) -> None:
    """Lengths, offsets, times, checksum and the producer's numbers: the same to the last byte."""
    theirs = BatchBuilder(10**7, 0)
    for key, value, some, at_ms in wanted:
        assert theirs.append(timestamp=at_ms, key=key, value=value, headers=some) is not None
    (ours,) = batches([pack(record) for record in wanted], 10**7)
    for batch in (theirs, ours):
        batch._set_producer_state(producer_id, 3, sequence)
    assert ours._build() == theirs._build()
    assert ours.size() == len(ours._build())
    assert ours.record_count() == theirs.record_count() == len(wanted)


@pytest.mark.parametrize("bytes_max", [1, 300, 1000, 100_000])
def test_batches_keep_their_bound_and_the_order(bytes_max: int) -> None:
    """Each batch has its bound, or holds one record that is larger by itself; none is lost."""
    sent = [Record(b"k%d" % n, b"v" * (n % 90), [], AT_MS + n) for n in range(500)]
    found = []
    for batch in batches([pack(record) for record in sent], bytes_max):
        assert batch.size() <= bytes_max or batch.record_count() == 1
        raw = MemoryRecords(bytes(batch._build()))
        read = raw.next_batch()
        assert read.validate_crc()
        found += [Record(r.key, r.value, list(r.headers), r.timestamp) for r in read]
    assert found == sent
    assert list(batches([], bytes_max)) == []
