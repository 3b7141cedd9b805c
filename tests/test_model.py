"""Campaign definitions: what is read, what is refused with which words, and how times are fixed."""

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flashgrab.clock import to_rfc3339
from flashgrab.errors import DefinitionInvalid
from flashgrab.model import (
    DEFINITION_BYTES_MAX,
    Definition,
    Limits,
    Round,
    RoundText,
    Rule,
    fix_times,
    parse,
    parse_toml,
    to_plain,
)

NOW_MS = 1_800_000_000_000
CONTRACT = """
id = "spring-618"
name = "Spring sale: 30 off 200"
per_user = 1              # ≥ 1
per_device = 0            # 0 = no limit
[rule]
kind = "amount_off"       # closed list, see the centre
amount = 3000             # cents
threshold = 20000         # cents
[[rounds]]
opens_at = "2026-11-22T10:00:00+08:00"   # or "now", "+10s"
closes_at = "2026-11-22T12:00:00+08:00"  # or "+2h" after opening
quota = 10000
"""


def raw(**fields: Any) -> dict[str, Any]:
    return {
        "id": "x",
        "name": "A test",
        "rule": {"kind": "amount_off", "amount": 3000},
        "rounds": [{"opens_at": "now", "closes_at": "+1h", "quota": 10}],
    } | fields


def windows(*rounds: tuple[str, str]) -> dict[str, Any]:
    return {"rounds": [{"opens_at": o, "closes_at": c, "quota": 1} for o, c in rounds]}


def fixed(*rounds: tuple[str, str]) -> list[tuple[int, int]]:
    made = parse(raw(**windows(*rounds)), "f")
    return [(r.opens_at, r.closes_at) for r in fix_times(made, NOW_MS, "f")]


def refusal(**fields: Any) -> str:
    with pytest.raises(DefinitionInvalid) as caught:
        parse(raw(**fields), "f")
    return str(caught.value)


def test_the_file_of_the_contract_is_read_whole() -> None:
    """The example of contract §3 means exactly this."""
    definition = parse_toml(CONTRACT, "spring.toml")
    assert definition == Definition(
        id="spring-618",
        name="Spring sale: 30 off 200",
        per_user=1,
        per_device=0,
        rule=Rule(kind="amount_off", amount=3000, threshold=20000),
        rounds=[
            RoundText(
                opens_at="2026-11-22T10:00:00+08:00",
                closes_at="2026-11-22T12:00:00+08:00",
                quota=10000,
            )
        ],
        limits=None,
        challenge=None,
    )
    two_hours = 2 * 3_600_000
    opens_at = 1_795_312_800_000
    assert fix_times(definition, NOW_MS, "f") == [Round(1, opens_at, opens_at + two_hours, 10000)]
    assert to_rfc3339(opens_at) == "2026-11-22T02:00:00.000Z"


def test_limits_are_kept() -> None:
    """Rates stay as written, one a scope."""
    made = parse(raw(limits={"user": "5/10s", "passes": "100/1m"}), "f")
    assert made.limits == Limits(user="5/10s", passes="100/1m")


@pytest.mark.parametrize(
    "text, at_ms",
    [
        ("2027-01-15T08:00:00Z", NOW_MS),
        ("2027-01-15T16:00:00+08:00", NOW_MS),
        ("2027-01-15T03:30:00-04:30", NOW_MS),
        ("2027-01-15T08:00:00.250Z", NOW_MS + 250),
        ("2027-01-15T08:00:00.9999Z", NOW_MS + 999),
        ("now", NOW_MS),
        ("+0s", NOW_MS),
        ("+250ms", NOW_MS + 250),
        ("+10s", NOW_MS + 10_000),
        ("+5m", NOW_MS + 300_000),
        ("+2h", NOW_MS + 7_200_000),
        ("+3d", NOW_MS + 259_200_000),
    ],
)
def test_times_are_fixed_to_the_millisecond(text: str, at_ms: int) -> None:
    """RFC 3339 with any offset, `now`, and every relative unit."""
    assert fixed((text, "+1s")) == [(at_ms, at_ms + 1000)]


def test_a_relative_end_counts_from_its_own_opening() -> None:
    """`+2h` as closing time is two hours after that round opens, whatever opened it."""
    assert fixed(("+1h", "+2h"), ("2027-01-16T08:00:00Z", "+2h")) == [
        (NOW_MS + 3_600_000, NOW_MS + 10_800_000),
        (NOW_MS + 86_400_000, NOW_MS + 93_600_000),
    ]


def test_a_round_may_begin_when_the_one_before_ends() -> None:
    """Rounds that touch do not overlap."""
    assert fixed(("now", "+1h"), ("+1h", "+1h"))[1][0] == NOW_MS + 3_600_000


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-22T10:00:00",
        "2026-11-22",
        "tomorrow",
        "",
        "NOW",
        "+1w",
        "-1h",
        "+1.5h",
        "+ 1h",
        "+1h\n",
        "+1234567s",
        "2026-13-01T00:00:00Z",
        "2026-11-22T25:00:00Z",
    ],
)
def test_other_times_are_refused(text: str) -> None:
    """Without an offset, or in another form, the message shows what is meant."""
    assert refusal(**windows((text, "+1h"))) == (
        "f: rounds[0].opens_at: expected a time with its offset (2026-11-22T10:00:00+08:00),"
        f' "now" or "+10s", not {text!r}'
    )


@pytest.mark.parametrize("text", ["1969-12-31T23:59:59Z", "9999-12-31T23:59:59Z", "+999999d"])
def test_times_of_other_centuries_are_refused(text: str) -> None:
    """Before 1970 and after 2100 a time is a slip of the pen."""
    expected = f"f: rounds[0].opens_at: expected a time between 1970 and 2100, not {text!r}"
    assert refusal(**windows((text, "+1h"))) == expected


@pytest.mark.parametrize(
    "rounds, message",
    [
        ([("now", "now")], "f: rounds[0].closes_at: must come after opens_at"),
        ([("now", "+0s")], "f: rounds[0].closes_at: must come after opens_at"),
        (
            [("2026-11-22T10:00:00+08:00", "2026-11-22T01:59:59Z")],
            "f: rounds[0].closes_at: must come after opens_at",
        ),
        (
            [("now", "+2h"), ("+1h", "+2h")],
            "f: rounds[1].opens_at: must not come before the end of the round before it",
        ),
        (
            [("2026-11-22T10:00:00Z", "+2h"), ("2026-11-22T11:59:59Z", "+2h")],
            "f: rounds[1].opens_at: must not come before the end of the round before it",
        ),
        (
            [("+5h", "+1h"), ("+1h", "+1h")],
            "f: rounds[1].opens_at: must not come before the end of the round before it",
        ),
    ],
)
def test_backward_and_overlapping_times_are_refused(
    rounds: list[tuple[str, str]], message: str
) -> None:
    """What can be seen before publish is refused before publish."""
    assert refusal(**windows(*rounds)) == message


@pytest.mark.parametrize(
    "rounds, message",
    [
        (
            [("now", "+3d"), ("2027-01-16T08:00:00Z", "+1h")],
            "rounds[1].opens_at: must not come before the end of the round before it",
        ),
        (
            [("now", "2026-11-22T10:00:00+08:00")],
            "rounds[0].closes_at: must come after opens_at",
        ),
    ],
)
def test_relative_beside_absolute_is_judged_at_publish(
    rounds: list[tuple[str, str]], message: str
) -> None:
    """A relative time beside an absolute one is compared as soon as `now` is known."""
    definition = parse(raw(**windows(*rounds)), "f")
    with pytest.raises(DefinitionInvalid) as caught:
        fix_times(definition, NOW_MS, "f")
    assert str(caught.value) == f"f: {message}"


FIELDS = (
    "id, name, rule, rounds, per_user, per_device, durability, limits, challenge, audience, segment"
)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"extra": 1}, f"extra: unknown field, expected one of: {FIELDS}"),
        ({"rule": {"kind": "amount_off"}}, "rule.amount: missing"),
        ({"rule": {"kind": "gift", "amount": 1}}, "rule.kind: expected \"amount_off\", not 'gift'"),
        (
            {"rule": {"kind": "amount_off", "amount": 1, "cap": 2}},
            "rule.cap: unknown field, expected one of: kind, amount, threshold",
        ),
        ({"id": "a\n"}, "id: expected 1 to 48 of a-z 0-9 _ - that begin with a letter or digit"),
        ({"id": "a" * 49}, "id: expected 1 to 48 of a-z 0-9 _ - that begin with a letter or digit"),
        ({"name": "x" * 201}, "name: expected text in quotes of length <= 200"),
        ({"name": " \t"}, "name: expected text without control characters"),
        ({"name": "   "}, "name: expected text without control characters"),
        ({"name": "a\ud800"}, "name: expected text without control characters"),
        ({"per_user": 0}, "per_user: expected a whole number >= 1"),
        ({"per_user": True}, "per_user: expected a whole number, not true or false"),
        ({"per_user": 1.0}, "per_user: expected a whole number, not a fraction"),
        ({"per_device": -1}, "per_device: expected a whole number >= 0"),
        ({"rounds": []}, "rounds: expected a list of length >= 1"),
        ({"rounds": [{}]}, "rounds[0].opens_at: missing"),
        ({"rounds": {}}, "rounds: expected a list, not a table"),
        ({"limits": {"user": "5/0s"}}, 'limits.user: expected a rate such as "5/10s" or "100/1m"'),
        (
            {"limits": {"shop": "5/1s"}},
            "limits.shop: unknown field, expected one of: user, device, address, campaign, passes",
        ),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected(
    fields: dict[str, Any], message: str
) -> None:
    """One row a kind of mistake: the field first, then plain words."""
    assert refusal(**fields) == f"f: {message}"


@pytest.mark.parametrize("quota", [-1, 0, 10**8 + 1, 10**40, math.inf, "10", None])
def test_absurd_quotas_are_refused(quota: Any) -> None:
    """A quota is a whole number from 1 to 100 million."""
    message = refusal(rounds=[{"opens_at": "now", "closes_at": "+1h", "quota": quota}])
    assert message.startswith("f: rounds[0].quota: expected a whole number")


def test_what_was_sent_comes_back_cut() -> None:
    """An error never grows with what somebody sent."""
    assert len(refusal(**{"x" * 100_000: 1})) < 200
    assert len(refusal(rule={"kind": "x" * 100_000, "amount": 1})) < 500


@pytest.mark.parametrize(
    "text, message",
    [
        ('id = "x"\nname = \n', "not TOML: Invalid value (at line 2, column 8)"),
        ('id = "x"\nid = "y"\n', "not TOML: Cannot overwrite a value (at line 2, column 9)"),
        ("[[rounds\n", "not TOML: Expected ']]' at the end of an array declaration"),
        ("x = " + "[" * 5000, "not TOML: "),
        ("x = " + "1" * 5000, "not TOML: Exceeds the limit"),
        ('id = "x"\n', "name: missing"),
        ("a" * (DEFINITION_BYTES_MAX + 1), f"a campaign file has at most {DEFINITION_BYTES_MAX}"),
    ],
)
def test_a_wrong_file_is_named_with_its_line(text: str, message: str) -> None:
    """TOML errors name file and line; the rest names file and field."""
    with pytest.raises(DefinitionInvalid) as caught:
        parse_toml(text, "spring.toml")
    assert str(caught.value).startswith(f"spring.toml: {message}")


def test_a_bare_date_is_told_to_be_quoted() -> None:
    """TOML's own dates carry no relative form; the error says what to write."""
    text = CONTRACT.replace('"2026-11-22T10:00:00+08:00"', "2026-11-22T10:00:00+08:00")
    with pytest.raises(DefinitionInvalid, match="expected text in quotes, not a bare date"):
        parse_toml(text, "f")


@settings(deadline=None)  # noisy machines
@given(st.lists(st.tuples(st.integers(0, 100), st.integers(1, 100)), min_size=1, max_size=6))
def test_rounds_one_after_the_other_are_always_accepted(gaps: list[tuple[int, int]]) -> None:
    """Any rounds that follow each other come out in order, each as long as it was written."""
    at_s, written = 0, []
    for gap_s, length_s in gaps:
        written.append((f"+{at_s + gap_s}s", f"+{length_s}s"))
        at_s += gap_s + length_s
    times = fixed(*written)
    assert times[-1][1] == NOW_MS + at_s * 1000
    assert all(earlier[1] <= later[0] for earlier, later in pairwise(times))


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)  # noisy machines
@given(st.dictionaries(st.sampled_from(FIELDS.split(", ")), _plain) | _plain)
def test_whatever_comes_is_read_or_refused(anything: Any) -> None:
    """No plain data makes anything but a definition or a DefinitionInvalid."""
    try:
        definition = parse(anything, "f")
    except DefinitionInvalid:
        return
    assert fix_times(definition, NOW_MS, "f")


def test_durability() -> None:
    """Two levels, fsync by default; the default is left out of what is stored and sent, so that a
    release that does not know the field reads it."""
    plain = parse(raw(), "f")
    assert (plain.durability, "durability" in to_plain(plain)) == ("fsync", False)
    for level in ("fsync", "replica"):
        made = parse(raw(durability=level), "f")
        assert made.durability == level
        assert parse(to_plain(made), "f") == made
    assert "durability" in refusal(durability="disk")


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            {"audience": "friends"},
            'audience: expected "all" or "links" or "segment", not \'friends\'',
        ),
        ({"audience": "segment"}, 'segment: expected a name where audience is "segment", and'),
        ({"segment": "vip"}, 'segment: expected a name where audience is "segment", and'),
        (
            {"audience": "segment", "segment": "V I P"},
            "segment: expected 1 to 48 of a-z 0-9 _ - that begin with a letter or digit",
        ),
    ],
)
def test_an_audience_is_one_of_three(fields: dict[str, Any], message: str) -> None:
    """A segment has its name, and nothing else has one."""
    assert refusal(**fields).startswith(f"f: {message}")


def test_an_audience_of_all_is_not_written() -> None:
    """The release before reads a definition that asks for nothing new."""
    assert {"audience", "segment"}.isdisjoint(to_plain(parse(raw(audience="all"), "f")))
    for fields in ({"audience": "links"}, {"audience": "segment", "segment": "vip"}):
        plain = to_plain(parse(raw(**fields), "f"))
        assert {name: plain.get(name) for name in fields} == fields
        assert to_plain(parse(plain, "f")) == plain
