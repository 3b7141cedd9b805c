"""Outbox entries in the bytes of Kafka's log: the hot twin of messages."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flashgrab.broker import pack
from flashgrab.events import OutboxEntry
from worker.messages import messages
from worker.packing import LINE_MAX, packed

AT_MS = 1_700_000_000_123

words = st.text(st.characters(exclude_characters=",;", exclude_categories=["Cs"]), max_size=20)
plain = st.text("aZ09._~@-", min_size=1, max_size=64)
numbers = st.integers(1, 10**13).map(str) | st.sampled_from(["07", "+7", " 7", "1_0"])
plain_lines = st.tuples(
    st.sampled_from("gr"), numbers, st.sampled_from(["1", "12"]), plain, st.just("") | plain, plain
)
odd_lines = st.tuples(st.sampled_from("gr"), numbers, numbers, words, words, words)


@given(st.lists(plain_lines | odd_lines, min_size=1, max_size=9), st.integers(1, 10**12))
def test_both_twins_give_the_same_bytes(lines: list[tuple[str, ...]], first: int) -> None:
    """Whatever ids look like, in JSON's special characters, too, and beyond ASCII."""
    text = ";".join(map(",".join, lines))
    entry = OutboxEntry(first, first + len(lines) - 1, 3, AT_MS, text)
    assert packed("c-1", entry) == [pack(record) for record in messages("c-1", entry)]


def test_the_hot_twin_is_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plain entry is packed without its readable twin; a per cent sign changes nothing."""
    entry = OutboxEntry(4, 6, 2, AT_MS, "g,1,1,ann,,k1;r,2,1,b%d,d1,!x;g,3,2,cy,,%b")
    wanted = [pack(record) for record in messages("c1", entry)]
    monkeypatch.setattr("worker.packing.messages", None)
    assert packed("c1", entry) == wanted


@pytest.mark.parametrize("length", [LINE_MAX, 5 * LINE_MAX])
def test_lines_of_any_length(length: int) -> None:
    """Sizes that take three bytes are right, too."""
    entry = OutboxEntry(1, 1, 1, AT_MS, f"g,1,1,ann,d,{'k' * length}")
    assert packed("c1", entry) == [pack(record) for record in messages("c1", entry)]


@pytest.mark.parametrize(
    "lines",
    ["", "g,1,1,ann,,k1", "g,1,1,ann,,k1;g,2,1,bob,d1;g,3,2,cy,,k3", "x,1,1,a,,k;;",
     "x,1,1,a,,k;g,2,1,b,,k;g,3,1,c,,k", "g,,1,a,,k;g,2,,b,,k;g,3,1,c,,k"],
)  # fmt: skip
def test_a_torn_entry_raises(lines: str) -> None:
    """As in the readable twin: nothing of an entry that is not whole becomes a record."""
    with pytest.raises(ValueError, match=r".+"):
        packed("c1", OutboxEntry(4, 6, 2, 0, lines))


def test_a_traced_fact_has_a_header_more() -> None:
    """The last one, and only that fact; the others are as ever."""
    trace = f"00-{'1' * 32}-{'2' * 16}-01"
    lines = "g,1,1,ann,,k1;g,2,1,bob,d1,k2"
    plain, traced = (OutboxEntry(4, 5, 2, AT_MS, lines, t) for t in ("", f"bob,k2,{trace}"))
    before, after = messages("c1", plain), messages("c1", traced)
    assert after[0] == before[0]
    assert after[1].headers == [*before[1].headers, ("traceparent", trace.encode())]
    assert packed("c1", traced) == [pack(record) for record in after]
