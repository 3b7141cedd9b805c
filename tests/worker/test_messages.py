"""Outbox entries as messages."""

import pytest

from flashgrab.events import OutboxEntry, cloud_headers, decode, encode
from worker.messages import SOURCE, messages, read_ranges

ENTRY = OutboxEntry(4, 6, 2, 1_700_000_000_123, "g,1,1,ann,,k1;g,2,1,bob,d1,!x;g,3,2,cy,,k3")


def test_one_message_a_fact() -> None:
    """Key, value, headers and time of each message are those of its fact."""
    found = messages("c1", ENTRY)
    facts = list(ENTRY.facts("c1"))
    assert [m.key for m in found] == [b"ann", b"bob", b"cy"]
    assert [decode(m.value) for m in found] == facts
    assert [m.value for m in found] == [encode(fact) for fact in facts]
    assert [m.headers for m in found] == [cloud_headers(f, SOURCE.decode()) for f in facts]
    assert {m.timestamp_ms for m in found} == {ENTRY.at_ms}


def test_only_the_facts_that_are_asked_for() -> None:
    """Ranges may begin and end inside an entry."""
    found = messages("c1", ENTRY, [(1, 4), (6, 9)])
    assert [decode(m.value).seq for m in found] == [4, 6]


@pytest.mark.parametrize(
    "lines", ["", "g,1,1,ann,,k1", "g,1,1,ann,,k1;g,2,1,bob,d1;g,3,2,cy,,k3", "x,1,1,a,,k;;"]
)
def test_a_torn_entry_raises(lines: str) -> None:
    """Nothing of an entry that is not whole becomes a message."""
    with pytest.raises(ValueError, match=r".+"):
        messages("c1", OutboxEntry(4, 6, 2, 0, lines))


@pytest.mark.parametrize(
    "text,ranges",
    [
        ("", []),
        ("5-9", [(5, 9)]),
        ("5-9,12-12", [(5, 9), (12, 12)]),
        ("5-9,x,12-", [(5, 9)]),
        ("5", []),
    ],
)
def test_ranges_of_holes(text: str, ranges: list[tuple[int, int]]) -> None:
    """What settle.lua keeps is read; what has another form is left out."""
    assert read_ranges(text) == ranges
