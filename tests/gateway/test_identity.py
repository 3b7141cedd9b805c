"""Identity tokens: what is taken, and that everything else is one answer."""

import base64
import hmac
import json
import time
from typing import Any

import jwt
import pytest

from flashgrab.clock import SystemClock
from gateway.identity import DEMO_TOKEN_S, Identity

KEY = "s" * 64
SHOP = Identity(KEY, "flashgrab", "shop", SystemClock())
OPEN = Identity(KEY, "", "", SystemClock())
GOOD: dict[str, Any] = {"sub": "u1", "aud": "flashgrab", "iss": "shop"}


def token(key: str = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    """A token of the shop; a claim of None is left out."""
    claims = {**GOOD, "exp": int(time.time()) + 86_400, **changes}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm=algorithm)


def by_hand(header: dict[str, Any], payload: bytes | None = None, key: bytes = b"") -> str:
    """A token put together without a library that would refuse to."""
    body = payload or json.dumps({**GOOD, "exp": int(time.time()) + 86_400}).encode()
    parts = [base64.urlsafe_b64encode(p).rstrip(b"=") for p in (json.dumps(header).encode(), body)]
    mac = hmac.digest(key, b".".join(parts), "sha256") if key else b""
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def test_a_good_token_names_its_user() -> None:
    """Signed, in time, for us, from the shop: its sub is the user."""
    assert SHOP.check(token()) == "u1"
    assert SHOP.check(token(aud=["another", "flashgrab"])) == "u1"
    assert OPEN.check(token(aud=None, iss=None)) == "u1"


BAD: dict[str, str] = {
    "empty": "",
    "not a token": "abc",
    "three dots": "...",
    "not ascii": "é.ü.ö",
    "other key": token(key="o" * 40),
    "other algorithm of the same family": token(algorithm="HS512"),
    "alg none": by_hand({"alg": "none", "typ": "JWT"}),
    "alg None, capitals": by_hand({"alg": "NONE"}),
    "alg missing": by_hand({"typ": "JWT"}, key=KEY.encode()),
    "alg of a public key, MAC by our secret": by_hand({"alg": "RS256"}, key=KEY.encode()),
    "alg EdDSA, MAC by our secret": by_hand({"alg": "EdDSA"}, key=KEY.encode()),
    "alg not a text": by_hand({"alg": ["HS256"]}, key=KEY.encode()),
    "HS256, no MAC": by_hand({"alg": "HS256"}),
    "HS256, empty key": by_hand({"alg": "HS256"}, key=b"\0"),
    "header not an object": "W10." + token().split(".", 1)[1],
    "payload changed": token()[:60] + "A" + token()[61:],
    "payload not an object": by_hand({"alg": "HS256"}, b"[1]", KEY.encode()),
    "payload not JSON": by_hand({"alg": "HS256"}, b"{", KEY.encode()),
    "payload very deep": by_hand({"alg": "HS256"}, b"[" * 100_000, KEY.encode()),
    "exp endless": by_hand({"alg": "HS256"}, b'{"sub":"u1","exp":1e999}', KEY.encode()),
    "exp not a number": by_hand({"alg": "HS256"}, b'{"sub":"u1","exp":[1]}', KEY.encode()),
    "exp a text": by_hand({"alg": "HS256"}, b'{"sub":"u1","exp":"soon"}', KEY.encode()),
    "expired": token(exp=int(time.time()) - 1),
    "exp missing": token(exp=None),
    "not yet": token(nbf=int(time.time()) + 3600),
    "sub missing": token(sub=None),
    "sub empty": token(sub=""),
    "sub of another form": token(sub="a,b;c"),
    "sub with a line end": token(sub="u1\n"),
    "sub too long": token(sub="u" * 65),
    "sub a number": by_hand({"alg": "HS256"}, b'{"sub":5,"exp":9999999999}', KEY.encode()),
    "critical extension": by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, key=KEY.encode()),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("identity", [SHOP, OPEN], ids=["shop", "open"])
def test_a_bad_token_is_nobody(name: str, identity: Identity) -> None:
    """Forged, broken, expired, of another algorithm: None, never an exception."""
    assert identity.check(BAD[name]) is None


@pytest.mark.parametrize("change", [{"aud": "other"}, {"aud": None}, {"iss": "x"}, {"iss": None}])
def test_audience_and_issuer_are_checked_where_set(change: dict[str, Any]) -> None:
    """A token for somebody else, or of somebody else, is refused; unless any is taken."""
    assert SHOP.check(token(**change)) is None
    assert OPEN.check(token(**change)) == "u1"


def test_what_the_demo_mints_is_taken() -> None:
    """A minted token passes the check and says when it ends."""
    for identity in (SHOP, OPEN):
        minted, expires_ms = identity.mint("buyer@shop.example")
        assert identity.check(minted) == "buyer@shop.example"
        assert abs(expires_ms / 1000 - time.time() - DEMO_TOKEN_S) < 2
