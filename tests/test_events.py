"""events.py: a fact as a line of the outbox, as a Kafka message, and what is neither."""

import contextlib
import json
import string

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given

from flashgrab.events import Fact, OutboxEntry, cloud_headers, decode, encode

FACT = Fact(
    event="grab.granted", seq=7, grab_id="c-1-5", campaign_id="c-1", serial=5, user_id="u@1",
    device_id="", round=2, request_id="!x", epoch=3, at_ms=1_790_000_000_123,
)  # fmt: skip
FIELDS = {"first": "7", "epoch": "3", "at_ms": "1790000000123"}
LINE = "g,5,2,u@1,,!x"

person_ids = st.text(string.ascii_letters + "0._~@-", min_size=1, max_size=64)
lines = st.tuples(
    st.sampled_from("gr"), st.integers(1, 10**12), st.integers(1, 400), person_ids,
    st.just("") | person_ids, st.just("!x") | st.text("kK0._~-", min_size=1, max_size=64),
)  # fmt: skip


def test_line_of_an_entry_becomes_a_fact() -> None:
    """Every field of the line and of the entry is in the fact."""
    entry = OutboxEntry.read("7-0", FIELDS | {"facts": LINE})
    assert entry == OutboxEntry(7, 7, 3, 1_790_000_000_123, LINE)
    assert list(entry.facts("c-1")) == [FACT]


@given(st.lists(lines, min_size=1, max_size=20), st.integers(1, 10**12))
def test_facts_of_an_entry_are_dense(
    rows: list[tuple[str, int, int, str, str, str]], first: int
) -> None:
    """Seqs run from first to last without a gap, whatever the ids look like."""
    text = ";".join(",".join(map(str, row)) for row in rows)
    last = first + len(rows) - 1
    facts = list(OutboxEntry(first, last, 1, 9, text).facts("c"))
    assert [f.seq for f in facts] == list(range(first, last + 1))
    assert [
        (f.event[5], f.serial, f.round, f.user_id, f.device_id, f.request_id) for f in facts
    ] == rows
    assert [f.grab_id for f in facts] == [f"c-{row[1]}" for row in rows]


@pytest.mark.parametrize("last,text", [(8, LINE), (6, LINE), (7, f"{LINE};{LINE}"), (7, "")])
def test_entry_whose_seqs_do_not_fit_gives_no_fact(last: int, text: str) -> None:
    """More or fewer facts than seqs: refused before the first fact."""
    facts = OutboxEntry(7, last, 1, 1, text).facts("c")
    with pytest.raises(ValueError, match=r"holds|unpack"):
        next(facts)


@pytest.mark.parametrize("line", ["x,5,2,u,,k", "g,5,2,u,k", "g,five,2,u,,k", "g,5,2,u,,k,", ""])
def test_odd_line_is_refused(line: str) -> None:
    """A line that no script writes is a ValueError, not a fact."""
    with pytest.raises(ValueError, match=r"kind|unpack|invalid"):
        list(OutboxEntry(7, 7, 1, 1, line).facts("c"))


def test_message_is_the_json_of_the_contract() -> None:
    """The message value has the contract's fields, names and order, and is read back."""
    value = encode(FACT)
    assert json.loads(value) == {
        "event": "grab.granted", "version": 1, "seq": 7, "grab_id": "c-1-5",
        "campaign_id": "c-1", "serial": 5, "user_id": "u@1", "device_id": "", "round": 2,
        "request_id": "!x", "epoch": 3, "at_ms": 1_790_000_000_123,
    }  # fmt: skip
    assert list(json.loads(value)) == [
        "event", "version", "seq", "grab_id", "campaign_id", "serial", "user_id", "device_id",
        "round", "request_id", "epoch", "at_ms",
    ]  # fmt: skip
    assert decode(value) == FACT


def test_newer_message_with_more_fields_is_read() -> None:
    """A field that this release does not know is passed over."""
    value = json.dumps({**json.loads(encode(FACT)), "colour": "red"}).encode()
    assert decode(value) == FACT


@pytest.mark.parametrize("field", ["event", "seq", "user_id", "at_ms"])
@pytest.mark.parametrize("wrong", [None, [], 1.5, {"a": 1}, True])
def test_message_with_a_wrong_field_is_refused(field: str, wrong: object) -> None:
    """A field of another type is a DecodeError."""
    value = json.dumps({**json.loads(encode(FACT)), field: wrong}).encode()
    with pytest.raises(msgspec.DecodeError):
        decode(value)


@given(st.binary() | st.text().map(str.encode) | st.just(b"{}") | st.just(b"[" * 100_000))
def test_anything_else_is_a_decode_error(value: bytes) -> None:
    """Bytes that are no fact raise DecodeError and nothing else."""
    with pytest.raises(msgspec.DecodeError):
        decode(value)


@given(st.integers(0, 300), st.integers(0, 255))
def test_damaged_message_is_read_or_a_decode_error(at: int, byte: int) -> None:
    """One byte otherwise: still a fact, or DecodeError; never another exception."""
    value = bytearray(encode(FACT))
    value[at % len(value)] = byte
    with contextlib.suppress(msgspec.DecodeError):
        assert isinstance(decode(bytes(value)), Fact)


def test_cloud_headers() -> None:
    """CloudEvents 1.0 in binary mode; the id names campaign, epoch and seq."""
    assert cloud_headers(FACT, "/relay") == [
        ("ce_specversion", b"1.0"),
        ("ce_id", b"c-1-3-7"),
        ("ce_source", b"/relay"),
        ("ce_type", b"io.flashgrab.grab.granted.v1"),
        ("ce_time", b"2026-09-21T14:13:20.123Z"),
        ("content-type", b"application/json"),
    ]
