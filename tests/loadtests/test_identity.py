"""The tokens that Locust's buyers sign for themselves."""

import jwt
import pytest

from loadtests import identity

SECRET = "s" * 40


def test_the_token_is_what_the_shops_login_would_sign() -> None:
    """PyJWT, which the gateway checks tokens with, takes it for this user and no other secret."""
    token = identity.token("u-1", SECRET)
    claims = jwt.decode(token, SECRET, algorithms=["HS256"])
    assert claims["sub"] == "u-1"
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(token, "t" * 40, algorithms=["HS256"])


def test_it_ends() -> None:
    """An hour after it was made."""
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(identity.token("u", SECRET, 1_000_000), SECRET, algorithms=["HS256"])


def test_without_a_secret_the_demo_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """And with one it is not."""
    monkeypatch.delenv("IDENTITY_KEY", raising=False)
    assert not identity.key()
    monkeypatch.setenv("IDENTITY_KEY", SECRET)
    assert identity.key() == SECRET
