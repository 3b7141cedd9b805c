"""passes.py: what was signed is read back; any other token is refused, and raises nothing."""

import string

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given

from flashgrab.ids import CAMPAIGN_ID, PERSON_ID
from flashgrab.passes import PASS_LENGTH_MAX, Pass, PassKeys, issue

KEYS = PassKeys.parse("k1:" + "a" * 32 + ",k2:" + "b" * 40)
OTHER = PassKeys.parse("k1:" + "c" * 32 + ",k3:" + "a" * 32)
NOW_MS, EXPIRES_MS = 1_790_000_000_000, 1_790_000_600_000
TOKEN = issue(KEYS, "spring-618", "user@1", "device.1", EXPIRES_MS)
LONG = "a" * 32
B64 = string.ascii_letters + string.digits + "-_"

campaign_ids = st.from_regex(CAMPAIGN_ID, fullmatch=True)
person_ids = st.from_regex(PERSON_ID, fullmatch=True)


@given(campaign_ids, person_ids, st.just("") | person_ids, st.integers(NOW_MS + 1, 10**15))
def test_signed_is_read_back(campaign: str, user: str, device: str, expires_ms: int) -> None:
    """A pass says what it was issued for, until the millisecond that it expires."""
    token = issue(KEYS, campaign, user, device, expires_ms)
    assert len(token) <= PASS_LENGTH_MAX
    assert KEYS.check(token, NOW_MS) == Pass(campaign, user, device, expires_ms)
    assert KEYS.check(token, expires_ms - 1) is not None
    assert KEYS.check(token, expires_ms) is None


def test_longest_pass_is_not_too_long() -> None:
    """The longest ids and the longest kid still make a pass that is accepted."""
    keys = PassKeys.parse("K" * 16 + ":" + "k" * 64)
    token = issue(keys, "c" * 48, "u" * 64, "d" * 64, 10**15)
    assert keys.check(token, NOW_MS) == Pass("c" * 48, "u" * 64, "d" * 64, 10**15)


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_changed_character_is_refused(at: int, character: str) -> None:
    """Any one character otherwise, and the pass is none."""
    assume(TOKEN[at] != character)
    assert KEYS.check(TOKEN[:at] + character + TOKEN[at + 1 :], NOW_MS) is None


def test_every_character_of_the_alphabet_at_every_place_is_refused() -> None:
    """Also where base64 would decode to the same bytes (the unused bits of the last character)."""
    for at in range(len(TOKEN)):
        for character in B64 + ".=+/":
            changed = TOKEN[:at] + character + TOKEN[at + 1 :]
            assert changed == TOKEN or KEYS.check(changed, NOW_MS) is None


@given(st.integers(0, len(TOKEN) - 1))
def test_cut_is_refused(length: int) -> None:
    """No beginning of a pass is a pass."""
    assert KEYS.check(TOKEN[:length], NOW_MS) is None


@given(st.integers(0, len(TOKEN)), st.text(min_size=1))
def test_inserted_is_refused(at: int, text: str) -> None:
    """Nothing can be put before, into or after a pass: padding and white space neither."""
    assert KEYS.check(TOKEN[:at] + text + TOKEN[at:], NOW_MS) is None


@pytest.mark.parametrize("extra", ["=", "==", "===", " ", "\n", "\r\n", "/", "A", "\0", "%3D"])
def test_padding_and_white_space_are_refused(extra: str) -> None:
    """What lenient decoders skip is refused at each end and after each part."""
    parts = TOKEN.split("/")
    for n in range(6):
        for changed in (parts[n] + extra, extra + parts[n]):
            token = "/".join([*parts[:n], changed, *parts[n + 1 :]])
            assert KEYS.check(token, NOW_MS) is None


def test_parts_of_two_passes_do_not_mix() -> None:
    """Neither the payload, the kid nor the MAC of one pass goes with the rest of another."""
    keys = [KEYS, PassKeys.parse("k2:" + "b" * 40 + ",k1:" + "a" * 32)]
    tokens = [issue(k, "spring-618", u, "", EXPIRES_MS) for k in keys for u in ("a", "b")]
    assert all(KEYS.check(token, NOW_MS) for token in tokens)
    parts = [token.split("/") for token in tokens]
    for one in parts:
        for other in parts:
            for n in range(6):
                mixed = "/".join([*one[:n], other[n], *one[n + 1 :]])
                assert mixed in tokens or KEYS.check(mixed, NOW_MS) is None


def test_all_keys_verify_and_no_other() -> None:
    """Any key of the list verifies; the same kid with another key, or another kid, does not."""
    second = PassKeys({"k2": KEYS.keys["k2"]})
    assert KEYS.check(issue(second, "c", "u", "", EXPIRES_MS), NOW_MS) is not None
    for token in (TOKEN, issue(second, "c", "u", "", EXPIRES_MS)):
        assert OTHER.check(token, NOW_MS) is None


def test_unsigned_is_refused() -> None:
    """A payload without a MAC, with an empty one, or with one that the payload does not have."""
    payload = "spring-618/user+1//1790000600000"
    for mac in ("", "a" * 32, "none"):
        assert KEYS.check(f"v1.k1/{payload}/{mac}", NOW_MS) is None
    assert KEYS.check(f"v1.k1/{payload}", NOW_MS) is None


@given(st.text())
def test_any_text_is_refused(text: str) -> None:
    """Whatever comes in is answered by None."""
    assert KEYS.check(text, NOW_MS) is None


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "...",
        "v1.k1//",
        "v1.//",
        "é" * 40,
        "\ud800",
        "x" * 10_000_000,
        TOKEN + "A" * 10_000,
    ],
    ids=["empty", "dot", "dots", "no parts", "no kid", "accents", "surrogate", "huge", "long"],
)
def test_odd_tokens_are_refused(token: str) -> None:
    """Empty, huge, non-ASCII and half tokens are refused without an exception."""
    assert KEYS.check(token, NOW_MS) is None


@pytest.mark.parametrize(
    "campaign,user,device",
    [
        ("C", "u", ""), ("c", "", ""), ("c", "a,b", ""), ("c", "u", "a,b"), ("c" * 49, "u", ""),
        ("c", "u" * 65, ""), ("c", "u\n", ""), ("c\n", "u", ""), ("c", "ü", ""), ("", "u", ""),
    ],
)  # fmt: skip
def test_issue_refuses_odd_ids(campaign: str, user: str, device: str) -> None:
    """No pass is signed for an id that is not of its form."""
    with pytest.raises(ValueError, match="not a"):
        issue(KEYS, campaign, user, device, EXPIRES_MS)


@pytest.mark.parametrize(
    "text",
    [
        "", "k1", "k1:short", f":{LONG}", f"k-1:{LONG}", f"é:{LONG}", f"{'K' * 17}:{LONG}",
        f"k1:{LONG},", f"k1:{LONG},k1:{LONG}",
    ],
)  # fmt: skip
def test_odd_keys_are_refused_without_saying_them(text: str) -> None:
    """A wrong list of keys is an error that names no key."""
    with pytest.raises(ValueError, match=r"kid|key \d needs") as refusal:
        PassKeys.parse(text)
    assert LONG not in str(refusal.value)


def test_keys_never_show() -> None:
    """Neither an error about a key without its kid nor the representation shows a key."""
    with pytest.raises(ValueError, match="key 1 needs at least 32") as refusal:
        PassKeys.parse("hunter2")
    assert "hunter2" not in str(refusal.value)
    assert repr(KEYS) == "PassKeys()"
