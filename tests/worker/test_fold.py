"""The books by themselves: folding facts and comparing, without any server."""

import pytest

from flashgrab.events import OutboxEntry, TornEntry
from flashgrab.ledger.books import CouponRow
from worker.damage import Damage, Finding, in_both, verdict
from worker.fold import (
    Counters,
    Held,
    Outbox,
    Sum,
    check_counters,
    check_entry,
    check_facts_counted,
    check_quotas,
    check_quotas_agree,
    check_returned_above,
    check_row,
    check_rows_above,
    name_unmatched,
    read_holder,
    total,
)


def entry(first_seq: int, *lines: str) -> OutboxEntry:
    return OutboxEntry(first_seq, first_seq + len(lines) - 1, 1, 0, ";".join(lines))


def grants(first_seq: int, count: int) -> OutboxEntry:
    """An entry of so many grants, seq and serial alike, a user each."""
    seqs = range(first_seq, first_seq + count)
    return entry(first_seq, *(f"g,{s},1,u{s},d{s},k{s}" for s in seqs))


def names(findings: list[Finding]) -> list[tuple[str, str]]:
    return [f.key for f in findings]


def test_the_outbox_is_folded_by_round_user_and_device() -> None:
    """Grants and returns of each round, and what waits for each user and device."""
    outbox = Outbox(0)
    outbox.take(
        [
            entry(1, "g,1,1,ann,phone,k1", "g,2,1,bob,,k2"),
            entry(3, "g,3,2,ann,phone,k3", "r,2,1,bob,,k2"),
        ],
        4,
    )
    outbox.end(4)
    assert outbox.sums == {1: Sum(2, 1), 2: Sum(1, 0)}
    assert outbox.users == {"ann": ("k1", "k3"), "bob": ("k2",)}
    assert outbox.devices == {"phone": 2}
    assert (outbox.gaps, outbox.torn, outbox.twice) == ([], [], set())
    assert sorted(outbox.facts) == [1, 2, 3, 4]


def test_returns_that_wait_are_counted_apart() -> None:
    """Of a user and of a device, as long as they wait; their grants may be rows already."""
    outbox = Outbox(5)
    outbox.take(
        [entry(6, "r,1,1,ann,phone,k1", "g,4,1,ann,phone,k2"), entry(8, "r,4,1,ann,phone,k2")], 8
    )
    assert (outbox.users, outbox.devices) == ({"ann": ("k2",)}, {"phone": 1})
    assert (outbox.users_back, outbox.devices_back) == ({"ann": 2}, {"phone": 2})
    outbox.pass_over(6)
    assert (outbox.users_back, outbox.devices_back) == ({"ann": 1}, {"phone": 1})
    outbox.pass_over(8)
    assert (outbox.users, outbox.devices) == ({}, {})
    assert (outbox.users_back, outbox.devices_back, outbox.sums) == ({}, {}, {1: Sum(0, 0)})


def test_a_return_above_the_watermark_must_be_in_the_outbox() -> None:
    """Another serial under its seq, a grant there, or a seq that Redis never gave."""
    outbox = Outbox(5)
    outbox.take([entry(6, "r,1,1,u1,,k1", "g,6,1,u6,,k6", "r,2,1,u2,,k2")], 8)
    rows = [row(serial)._replace(returned_seq=seq) for serial, seq in [(1, 6), (2, 8)]]
    assert check_returned_above(rows, outbox, 8) == []
    wrong = [row(serial)._replace(returned_seq=seq) for serial, seq in [(3, 6), (4, 7), (5, 9)]]
    assert names(check_returned_above(wrong, outbox, 8)) == [
        ("RETURN_DIFFERS", f"serial {serial}") for serial in (3, 4, 5)
    ]


def test_carrying_on_is_the_same_as_reading_again() -> None:
    """Taking in pieces while the watermark moves gives what one reading gives."""
    entries = [grants(first, 5) for first in range(1, 101, 5)]
    whole = Outbox(37)
    whole.take(entries, 90)
    pieces = Outbox(0)
    pieces.take(entries[:6], 30)
    pieces.pass_over(12)
    pieces.take(entries[6:12], 60)
    pieces.pass_over(37)
    pieces.take(entries[12:], 90)
    assert pieces.facts == whole.facts
    assert pieces.sums == whole.sums
    assert pieces.users == whole.users
    assert pieces.devices == whole.devices
    assert pieces.last_seq == whole.last_seq == 90


def test_an_entry_across_the_watermark_counts_only_above_it() -> None:
    """The ledger has its first part already."""
    outbox = Outbox(3)
    outbox.take([grants(1, 5)], 5)
    assert sorted(outbox.facts) == [4, 5]
    assert outbox.sums == {1: Sum(2, 0)}


def test_what_is_given_later_than_the_counters_is_not_counted() -> None:
    """Entries above the seq of the reading belong to the next one."""
    outbox = Outbox(0)
    outbox.take([grants(1, 5), grants(6, 5)], 5)
    outbox.end(5)
    assert (outbox.last_seq, len(outbox.facts), outbox.gaps) == (5, 5, [])


@pytest.mark.parametrize(
    "entries,gaps",
    [
        ([grants(3, 2), grants(5, 6)], [(1, 2)]),
        ([grants(1, 2), grants(5, 6)], [(3, 4)]),
        ([grants(1, 5)], [(6, 10)]),
        ([], [(1, 10)]),
        ([grants(2, 1), grants(4, 1), grants(6, 5)], [(1, 1), (3, 3), (5, 5)]),
    ],
)
def test_gaps_are_found_wherever_they_are(
    entries: list[OutboxEntry], gaps: list[tuple[int, int]]
) -> None:
    """At the beginning, in the middle, at the end, all of it, several."""
    outbox = Outbox(0)
    outbox.take(entries, 10)
    outbox.end(10)
    assert outbox.gaps == gaps


@pytest.mark.parametrize(
    "torn",
    [
        TornEntry("3-0", 3, "why"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2;nonsense"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2;x,3,1,u3,,k3"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2;g,3,1,u\0,,k3"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2;g,999999999999999999999,1,u3,,k3"),
        OutboxEntry(2, 3, 1, 0, "g,2,1,u2,,k2;g,three,1,u3,,k3"),
    ],
)
def test_a_torn_entry_is_named_and_its_facts_are_a_gap(torn: OutboxEntry | TornEntry) -> None:
    """What comes before and after it is folded."""
    outbox = Outbox(0)
    outbox.take([grants(1, 1), torn, grants(4, 2)], 5)
    outbox.end(5)
    assert names(outbox.torn) == [("TORN_ENTRY", "entry 3")]
    assert outbox.gaps == [(2, 3)]
    assert sorted(outbox.facts) == [1, 4, 5]


def test_a_request_that_waits_twice_is_found() -> None:
    """The same request id of the same user, in one entry or in two."""
    outbox = Outbox(0)
    outbox.take([entry(1, "g,1,1,ann,,k", "g,2,1,bob,,k"), entry(3, "g,3,1,ann,,k")], 3)
    assert outbox.twice == {"ann"}


def test_over_quota() -> None:
    """Granted minus returned against the ledger's quota, round by round."""
    sums = {1: Sum(12, 2), 2: Sum(6, 0), 3: Sum(1, 0)}
    findings = check_quotas(sums, {1: 10, 2: 5})
    assert names(findings) == [("OVER_QUOTA", "round 2"), ("OVER_QUOTA", "round 3")]


@pytest.mark.parametrize("off", [-1, 1])
def test_left_off_by_one(off: int) -> None:
    """I6 on Redis' own numbers."""
    good = Counters(10, 4, 7, 1)
    assert check_counters({1: good}) == []
    findings = check_counters({1: good, 2: good._replace(left=4 + off)})
    assert names(findings) == [("LEFT_OFF", "round 2")]
    assert f"off by {off:+d}" in findings[0].detail


@pytest.mark.parametrize(
    "counters,unseen,found",
    [
        (Counters(10, 5, 5, 0), 0, False),
        (Counters(10, 4, 6, 0), 0, True),
        (Counters(10, 4, 6, 0), 1, False),
        (Counters(10, 3, 7, 0), 1, True),
        (Counters(10, 6, 4, 0), 1, True),
    ],
)
def test_the_counters_are_held_against_the_facts(
    counters: Counters, unseen: int, found: bool
) -> None:
    """A fact that only a dead letter accounts for is the one allowed difference."""
    findings = check_facts_counted({1: Sum(5, 0)}, {1: counters}, unseen)
    assert names(findings) == ([("COUNTER_OFF", "round 1")] if found else [])


def test_quotas_of_redis_and_ledger_agree() -> None:
    """Where both have the same version they sell the same quota."""
    counters = {1: Counters(10, 10, 0, 0), 2: Counters(7, 7, 0, 0)}
    assert check_quotas_agree({1: 10, 2: 7}, counters) == []
    assert names(check_quotas_agree({1: 10, 2: 8}, counters)) == [("QUOTA_DIFFERS", "round 2")]


def row(serial: int, **changes: object) -> CouponRow:
    fields = CouponRow(serial, serial, 1, f"u{serial}", "", f"k{serial}")
    return fields._replace(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "above,found",
    [
        (row(3), []),
        (row(3, user_id="thief"), [("WRONG_USER", "serial 3")]),
        (row(3, request_id="other"), [("WRONG_USER", "serial 3")]),
        (row(9, seq=3), [("EXTRA_ROW", "serial 9")]),
        (row(4, seq=6), [("EXTRA_ROW", "serial 4")]),
        (row(8, seq=4), [("EXTRA_ROW", "serial 8")]),
    ],
)
def test_rows_above_the_watermark(above: CouponRow, found: list[tuple[str, str]]) -> None:
    """Each one must be the fact that the outbox has under its seq."""
    outbox = Outbox(0)
    outbox.take([grants(1, 5)], 5)
    assert names(check_rows_above([above], outbox, seq=5, serial=5)) == found


def test_a_holders_entry() -> None:
    """Read as grab.lua's header says; other forms raise."""
    held = read_holder("1,2,1,g,k1;5,9,2,r,!x;")
    assert held == [Held(1, 2, 1, "g", "k1"), Held(5, 9, 2, "r", "!x")]
    for torn in ("1,2,1,g;", "a,2,1,g,k;", "0,2,1,g,k;", "1,99999999999999999,1,g,k;"):
        with pytest.raises(ValueError, match=r".+"):
            read_holder(torn)


def test_a_row_is_in_its_users_entry() -> None:
    """Serial, seq, round and request id must all be those of one grant."""
    entry_ = "3,3,1,g,k3;4,4,1,g,k4;"
    assert check_row(row(3), entry_)
    for other in (row(3, seq=4), row(3, round=2), row(3, request_id="k4"), row(5)):
        assert not check_row(other, entry_)
    assert not check_row(row(3), "")
    assert not check_row(row(3), "torn;")


def test_what_has_no_counterpart_is_named() -> None:
    """By the serial that a row and a grant share, or by which of the two is missing."""
    rows = {1: row(1), 2: row(2), 3: row(3), 4: row(4)}
    grants_ = {2: "u2", 3: "thief", 5: "u5"}
    assert names(name_unmatched(rows, grants_, doubled={4})) == [
        ("NOT_A_HOLDER", "serial 1"),
        ("ROW_DIFFERS", "serial 2"),
        ("WRONG_USER", "serial 3"),
        ("EXTRA_ROW", "serial 4"),
        ("MISSING_ROW", "serial 5"),
    ]


def test_an_entry_by_itself() -> None:
    """The limit counts what is held; a request id stands once."""
    held = read_holder("1,1,1,r,k1;2,2,1,g,k2;")
    assert check_entry("ann", held, per_user=1) == []
    assert names(check_entry("ann", read_holder("1,1,1,g,a;2,2,1,g,b;"), 1)) == [
        ("USER_LIMIT", "user ann")
    ]
    assert names(check_entry("ann", read_holder("1,1,1,g,a;2,2,1,g,a;"), 2)) == [
        ("DOUBLE_REQUEST", "user ann")
    ]


def test_sums_add_up() -> None:
    """Rows below and facts above the watermark are one account."""
    assert total({1: Sum(2, 1)}, {1: Sum(3, 0), 2: Sum(1, 1)}) == {1: Sum(5, 1), 2: Sum(1, 1)}


def test_the_verdict_names_the_broken_invariants() -> None:
    """Every damage belongs to one invariant, and every invariant can be broken."""
    assert {d.value.invariant for d in Damage} == set(verdict([]))
    assert all(verdict([]).values())
    broken = verdict([Finding.of(Damage.GAP, "x"), Finding.of(Damage.USER_LIMIT, "y")])
    assert [name for name, good in broken.items() if not good] == ["I2", "I4"]


def test_only_what_stands_in_two_readings_is_wrong() -> None:
    """The subject decides, and the later words are kept."""
    first = [Finding.of(Damage.GAP, "a", "early"), Finding.of(Damage.GAP, "b")]
    second = [Finding.of(Damage.GAP, "a", "late"), Finding.of(Damage.DOUBLE, "b")]
    assert in_both(first, second) == [Finding.of(Damage.GAP, "a", "late")]
