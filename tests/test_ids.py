"""ids.py: the forms of ids, and grab ids there and back."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from flashgrab.ids import (
    CAMPAIGN_ID,
    OWN_REQUEST_PREFIX,
    grab_id,
    is_campaign_id,
    is_idempotency_key,
    is_user_id,
    split_grab_id,
)


@pytest.mark.parametrize("text", ["a", "0", "spring-618", "a_b", "a-", "9" * 48])
def test_campaign_ids(text: str) -> None:
    """What the contract allows."""
    assert is_campaign_id(text)


@pytest.mark.parametrize(
    "text", ["", "A", "-a", "_a", "a" * 49, "a.b", "a b", "a\n", "ä", "a}", "{c:a}", "٣"]
)
def test_not_campaign_ids(text: str) -> None:
    """No capital, no leading sign, nothing that means something in a key or a path."""
    assert not is_campaign_id(text)


@pytest.mark.parametrize("text", ["a", "A.b_c~d@e-f", "0" * 64])
def test_user_ids(text: str) -> None:
    """What the contract allows for users and devices."""
    assert is_user_id(text)


@pytest.mark.parametrize("text", ["", "a" * 65, "a,b", "a;b", "a b", "a\n", "é", "a/b", "!a"])
def test_not_user_ids(text: str) -> None:
    """Nothing that divides the fields of an outbox line or an entry."""
    assert not is_user_id(text)


@pytest.mark.parametrize("text", ["", "k" * 65, "a,b", "a;b", "!k", "a@b", "k\n", "ü"])
def test_not_idempotency_keys(text: str) -> None:
    """No key can look like a request id that the gateway makes, or divide an entry."""
    assert not is_idempotency_key(text)
    assert not is_idempotency_key(OWN_REQUEST_PREFIX + "x")


@given(st.from_regex(CAMPAIGN_ID, fullmatch=True), st.integers(1, 10**15 - 1))
def test_grab_id_there_and_back(campaign_id: str, serial: int) -> None:
    """Campaign and serial come back out of a grab id, also where the campaign has dashes."""
    assert split_grab_id(grab_id(campaign_id, serial)) == (campaign_id, serial)


@given(st.text())
def test_any_text_is_split_or_none(text: str) -> None:
    """Whatever comes in is answered; what is split is the only name of its grab."""
    if found := split_grab_id(text):
        assert grab_id(*found) == text


@pytest.mark.parametrize(
    "text",
    ["", "a", "a-", "-1", "a-0", "a-01", "a--1x", "a-1 ", "a-+1", "a-٣", "A-1", "a-1" + "0" * 15],
)
def test_not_grab_ids(text: str) -> None:
    """No serial, one with a leading zero or sign, or one beyond all serials."""
    assert split_grab_id(text) is None
