"""links.py: what a claim link's token lets in, and what it does not."""

import random
import string

import pytest

from flashgrab.links import LINK_LENGTH_MAX, Link, LinkKeys
from flashgrab.passes import PassKeys, issue

TEXT = "k1:" + "a" * 32
KEYS = LinkKeys.parse(TEXT)
NOW = 1_800_000_000_000
LINK = Link("spring", "a@b.example", "mail", NOW + 1000)
TOKEN = KEYS.sign(LINK)


def test_a_token_says_what_was_signed() -> None:
    """All its fields, until the millisecond in which it expires."""
    assert KEYS.check(TOKEN, NOW) == LINK
    assert KEYS.check(TOKEN, LINK.expires_ms - 1) == LINK
    assert KEYS.check(TOKEN, LINK.expires_ms) is None
    bare = Link("spring", "", "", NOW + 1)
    assert KEYS.check(KEYS.sign(bare), NOW) == bare


@pytest.mark.parametrize(
    "campaign_id, user_id, admitted",
    [("spring", "a@b.example", True), ("spring", "other", False), ("autumn", "a@b.example", False)],
)
def test_a_link_is_for_its_campaign_and_its_user(
    campaign_id: str, user_id: str, admitted: bool
) -> None:
    """One without a user is for whoever has it."""
    assert KEYS.admits(TOKEN, campaign_id, user_id, NOW) == admitted
    anybody = KEYS.sign(Link("spring", "", "", NOW + 1))
    assert KEYS.admits(anybody, campaign_id, user_id, NOW) == (campaign_id == "spring")


def test_keys_rotate() -> None:
    """The first key signs, all verify; one that is gone verifies nothing."""
    both = LinkKeys.parse(f"k2:{'b' * 32},{TEXT}")
    assert both.check(TOKEN, NOW) == LINK
    assert both.sign(LINK).startswith("l1.k2/")
    assert KEYS.check(both.sign(LINK), NOW) is None


def test_a_pass_is_no_link_and_a_link_no_pass() -> None:
    """They share a secret, and not a signature."""
    passes = PassKeys.parse(TEXT)
    token = issue(passes, "spring", "u1", "mail", NOW + 1000)
    assert KEYS.check(token, NOW) is None
    assert KEYS.check("l1" + token[2:], NOW) is None
    assert passes.check(TOKEN, NOW) is None
    assert passes.check("v1" + TOKEN[2:], NOW) is None


def test_mutated_tokens_are_refused() -> None:
    """10,000 changed in one or two places: refused without an exception."""
    chance = random.Random(6)
    letters = string.printable + "é\0"
    for _ in range(10_000):
        text = list(TOKEN)
        for _ in range(chance.choice((1, 1, 2))):
            at = chance.randrange(len(text))
            match chance.randrange(3):
                case 0:
                    text[at] = chance.choice(letters)
                case 1:
                    text.insert(at, chance.choice(letters))
                case _:
                    del text[at]
        changed = "".join(text)
        if changed != TOKEN:
            assert KEYS.check(changed, NOW) is None
    for odd in ("", "/", "l1.k1", "l1.k1/////", "x" * (LINK_LENGTH_MAX + 1), TOKEN.upper()):
        assert KEYS.check(odd, NOW) is None


@pytest.mark.parametrize(
    "link", [Link("No", "", "", 1), Link("a", "x/y", "", 1), Link("a", "", "Mail", 1)]
)
def test_only_sound_fields_are_signed(link: Link) -> None:
    """An id of another form could be read as other fields."""
    with pytest.raises(ValueError, match="not a"):
        KEYS.sign(link)
