"""What a message is: a fact, or a dead letter with a reason of the closed list."""

import json
from typing import Any, get_args

import pytest
from msgspec import structs

from flashgrab.events import decode
from flashgrab.ledger.facts import CampaignKnown, Grant
from flashgrab.ledger.letters import Letter
from flashgrab.measured import DEAD
from worker.forms import Reason, against_ledger, judge, judge_all

GOOD: dict[str, Any] = {
    "event": "grab.granted",
    "version": 1,
    "seq": 7,
    "grab_id": "c1-5",
    "campaign_id": "c1",
    "serial": 5,
    "user_id": "ann@example.org",
    "device_id": "",
    "round": 1,
    "request_id": "!0123456789abcdef",
    "epoch": 1,
    "at_ms": 1_700_000_000_000,
}
KNOWN = {"c1": CampaignKnown(1, frozenset({1, 2}))}


def message(**changes: Any) -> bytes:
    return json.dumps(GOOD | changes).encode()


def test_a_good_message_is_a_grant() -> None:
    """Every field comes through as it was sent."""
    judged = judge(b"ann@example.org", message())
    assert judged == Grant(decode(message()), b"ann@example.org", message())
    assert against_ledger(judged, KNOWN) is None


def test_a_return_is_taken_like_a_grant() -> None:
    """A returned fact of good form comes through whole, alone and among others."""
    back = message(event="grab.returned", seq=8)
    judged = judge(b"k", back)
    assert judged == Grant(decode(back), b"k", back)
    grants, letters = judge_all([b"k", b"k"], [message(), back])
    assert [(g.fact.event, g.fact.seq) for g in grants] == [
        ("grab.granted", 7),
        ("grab.returned", 8),
    ]
    assert letters == []


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("UNKNOWN_EVENT", {"event": "grab.eaten"}),
    ("UNKNOWN_EVENT", {"version": 2}),
    ("WRONG_FORM", {"user_id": "a b"}),
    ("WRONG_FORM", {"user_id": ""}),
    ("WRONG_FORM", {"user_id": "x" * 65}),
    ("WRONG_FORM", {"user_id": 5}),
    ("WRONG_FORM", {"user_id": "ann\0"}),
    ("WRONG_FORM", {"user_id": "ann\n"}),
    ("WRONG_FORM", {"device_id": "d,e"}),
    ("WRONG_FORM", {"request_id": ""}),
    ("WRONG_FORM", {"request_id": "!"}),
    ("WRONG_FORM", {"request_id": "a!b"}),
    ("WRONG_FORM", {"serial": 0, "grab_id": "c1-0"}),
    ("WRONG_FORM", {"serial": 10**14, "grab_id": f"c1-{10**14}"}),
    ("WRONG_FORM", {"serial": 5.5}),
    ("WRONG_FORM", {"serial": True}),
    ("WRONG_FORM", {"round": 0}),
    ("WRONG_FORM", {"round": 2**31}),
    ("WRONG_FORM", {"epoch": 0}),
    ("WRONG_FORM", {"at_ms": -1}),
    ("WRONG_FORM", {"grab_id": "c1-6"}),
    ("WRONG_FORM", {"grab_id": None}),
    ("WRONG_FORM", {"event": "grab.returned", "serial": 0, "grab_id": "c1-0"}),
]


@pytest.mark.parametrize("reason,changes", WRONG)
def test_a_wrong_field_is_a_dead_letter_under_its_seq(reason: str, changes: dict[str, Any]) -> None:
    """The letter names its reason, keeps the bytes, and accounts for the seq."""
    letter = judge(b"k", message(**changes))
    assert isinstance(letter, Letter)
    assert (letter.reason, letter.campaign_id, letter.seq) == (reason, "c1", 7)
    assert (letter.key, letter.value) == (b"k", message(**changes))


@pytest.mark.parametrize("seq", [0, -1, 10**14, 10**30, 1.5, "7", None, True])
def test_an_absurd_seq_accounts_for_nothing(seq: Any) -> None:
    """Only a seq of its form may let the watermark pass."""
    letter = judge(b"k", message(seq=seq))
    assert isinstance(letter, Letter)
    assert (letter.reason, letter.campaign_id, letter.seq) == ("WRONG_FORM", "c1", None)


@pytest.mark.parametrize("campaign_id", ["C1", "", "a" * 49, "../c1", 5, None])
def test_an_absurd_campaign_is_not_named(campaign_id: Any) -> None:
    """A letter's campaign is a known form or nothing."""
    letter = judge(b"k", message(campaign_id=campaign_id))
    assert isinstance(letter, Letter)
    assert (letter.reason, letter.campaign_id, letter.seq) == ("WRONG_FORM", None, None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xff\xfe",
        b"not json",
        b"{",
        b"null",
        b"[1,2]",
        b'"text"',
        b"[" * 100_000,
        b'{"user_id": "\xff"}',
        b'{"seq": ' + b"9" * 5000 + b"}",
    ],
    ids=["empty", "bytes", "text", "open", "null", "list", "string", "deep", "utf8", "digits"],
)
def test_bytes_that_are_no_object_are_undecodable_or_of_wrong_form(value: bytes) -> None:
    """Whatever comes, judging it never raises."""
    letter = judge(b"", value)
    assert isinstance(letter, Letter)
    assert letter.reason in ("UNDECODABLE", "UNKNOWN_EVENT", "WRONG_FORM")
    assert letter.seq is None


@pytest.mark.parametrize(
    "reason,changes",
    [
        ("UNKNOWN_CAMPAIGN", {"campaign_id": "c2", "grab_id": "c2-5"}),
        ("UNKNOWN_ROUND", {"round": 3}),
        ("UNKNOWN_EPOCH", {"epoch": 2}),
    ],
)
def test_what_the_ledger_does_not_know_is_a_dead_letter(
    reason: str, changes: dict[str, Any]
) -> None:
    """A grant of good form still needs its campaign, round and epoch in the ledger."""
    grant = judge(b"k", message(**changes))
    assert isinstance(grant, Grant)
    letter = against_ledger(grant, KNOWN)
    assert letter is not None
    assert (letter.reason, letter.seq) == (reason, 7)


def test_the_reasons_are_a_closed_list() -> None:
    """Every reason that these tests meet is in the list that labels the metric."""
    met = {reason for reason, _ in WRONG} | {"UNDECODABLE"}
    assert met <= set(get_args(Reason)) == set(DEAD)


def test_the_digest_tells_key_from_value() -> None:
    """Two messages whose key and value join to the same bytes are two letters."""
    one = Letter("UNDECODABLE", "", b"ab", b"c")
    other = Letter("UNDECODABLE", "", b"a", b"bc")
    assert one.digest != other.digest
    assert one.digest == Letter("WRONG_FORM", "later", b"ab", b"c").digest


def test_all_good_messages_are_judged_by_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once: the same grants as one by one, without judging one by one."""
    values = [
        message(seq=n, serial=n, grab_id=f"c1-{n}", device_id="d" * (n % 3)) for n in (1, 2, 9)
    ]
    keys = [b"1", b"", b"3"]
    wanted = [judge(key, value) for key, value in zip(keys, values, strict=True)]
    monkeypatch.setattr("worker.forms.judge", None)
    grants, letters = judge_all(keys, values)
    assert [(g.key, g.value) for g in grants] == list(zip(keys, values, strict=True))
    assert [structs.asdict(g.fact) for g in grants] == [
        structs.asdict(g.fact) for g in wanted if isinstance(g, Grant)
    ]
    assert letters == []
    assert judge_all([], []) == ([], [])


@pytest.mark.parametrize("reason,changes", WRONG)
def test_one_odd_message_among_many_is_found(reason: str, changes: dict[str, Any]) -> None:
    """Whatever is wrong with one of them, it gets its own letter, and the others stay grants."""
    values = [message(), message(**changes), message(seq=8)]
    grants, letters = judge_all([b"a", b"b", b"c"], values)
    assert [g.key for g in grants] == [b"a", b"c"]
    assert letters == [judge(b"b", values[1])]
    assert letters[0].reason == reason


@pytest.mark.parametrize("name", ["user_id", "device_id", "request_id"])
def test_an_id_cannot_pose_as_two(name: str) -> None:
    """A newline inside an id, which would look like two good ids in a column, is wrong."""
    good = judge(b"", message())
    assert isinstance(good, Grant)
    grants, letters = judge_all([b"a", b"b"], [message(**{name: "x\ny"}), message()])
    assert [g.key for g in grants] == [b"b"]
    assert [letter.reason for letter in letters] == ["WRONG_FORM"]
