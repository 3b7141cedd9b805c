"""The shop's own tokens: who is known by them, and what is no list of them."""

from hashlib import sha256

import pytest

from flashgrab.shop_tokens import TOKEN_LENGTH_MAX, ShopTokens

TILL, APP = "till-" + "t" * 30, "app-" + "a" * 30


def entry(name: str, token: str) -> str:
    return f"{name}:{sha256(token.encode()).hexdigest()}"


TOKENS = ShopTokens.parse(f"{entry('till', TILL)}, {entry('app', APP)}")


def test_a_token_names_its_holder() -> None:
    """Each by its own; the digest itself is none."""
    assert (TOKENS.check(TILL), TOKENS.check(APP)) == ("till", "app")
    digest = sha256(TILL.encode()).hexdigest()
    for wrong in ("", "till", TILL[:-1], TILL + " ", TILL.upper(), digest, "é" * 20):
        assert TOKENS.check(wrong) is None


def test_short_and_long_ones_are_nobody() -> None:
    """Even if somebody configured the digest of one: it could be guessed."""
    for token in ("secret", "x" * (TOKEN_LENGTH_MAX + 1)):
        assert ShopTokens.parse(entry("till", token)).check(token) is None


def test_without_any_nobody_is_the_shop() -> None:
    """Off by default."""
    assert ShopTokens.parse("").check(TILL) is None


@pytest.mark.parametrize(
    "text",
    ["till", "till:", "till:abc", f":{'0' * 64}", f"till:{'G' * 64}", f"till:{'A' * 64}",
     f"a b:{'0' * 64}", f"{entry('till', TILL)},", f"{entry('till', TILL)},{entry('till', APP)}",
     f"till:{TILL}"],
)  # fmt: skip
def test_a_list_has_its_form(text: str) -> None:
    """name:digest pairs, each name once; a token put there by mistake is not repeated."""
    with pytest.raises(ValueError, match=r"SHA-256|twice") as caught:
        ShopTokens.parse(text)
    assert TILL not in str(caught.value)


def test_digests_are_not_shown() -> None:
    """Nor in a repr."""
    assert sha256(TILL.encode()).hexdigest()[:8] not in repr(TOKENS)
