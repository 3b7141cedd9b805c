"""Identity by public keys: rotation, broken files, and tokens that try to choose how they are
checked."""

import base64
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from flashgrab.alarms import Alarm, Alarms
from flashgrab.clock import SystemClock
from gateway.identity import LEEWAY_MS, TOKEN_LENGTH_MAX, Identity
from gateway.login_keys import LoginKeys
from tests.keys_of_logins import Private, ed25519, jwk, jwks, pem, private_pem, rsa, token

pytestmark = pytest.mark.anyio

SECRET = "s" * 64
RSA, ED, NEXT, STRANGE = rsa("a"), ed25519("a"), ed25519("b"), ed25519("c")


class Login:
    """A file of keys, the alarms, and an identity that follows it."""

    def __init__(self, path: Path, *, key: str = "", clock: Any = None) -> None:
        self.path = path
        self.alarms = Alarms()
        self.keys = LoginKeys(path, self.alarms)
        clock = clock or SystemClock()
        self.identity = Identity(key, "flashgrab", "shop", clock, "", self.keys)

    async def has(self, data: bytes) -> "Login":
        """With this in its file, read."""
        self.path.write_bytes(data)
        await self.keys.look()
        return self

    def is_alarmed(self) -> bool:
        return self.alarms.is_on(Alarm.LOGIN_KEYS)


@pytest.fixture
async def login(tmp_path: Path) -> Login:
    """A login with an RSA and an Ed25519 key."""
    return await Login(tmp_path / "keys").has(jwks(jwk(RSA, "r1"), jwk(ED, "e1")))


async def test_both_kinds_of_key_are_taken(login: Login) -> None:
    """RS256 and EdDSA, each by its kid, or without one."""
    for key, kid in ((RSA, "r1"), (ED, "e1"), (RSA, ""), (ED, "")):
        assert login.identity.check(token(key, kid)) == "u1"


async def test_a_pem_is_enough(tmp_path: Path) -> None:
    """It has no kid, so any kid may mean it; with two of them both count."""
    login = await Login(tmp_path / "keys").has(pem(RSA) + pem(ED))
    for key, kid in ((RSA, ""), (ED, "whatever")):
        assert login.identity.check(token(key, kid)) == "u1"
    assert login.identity.check(token(STRANGE, "")) is None


async def test_a_secret_and_keys_side_by_side(tmp_path: Path) -> None:
    """While a shop changes over; the secret signs HS256 and nothing else does."""
    login = await Login(tmp_path / "keys", key=SECRET).has(jwks(jwk(ED, "e1")))
    assert login.identity.check(login.identity.mint("u2")[0]) == "u2"
    assert login.identity.check(token(ED, "e1")) == "u1"


def test_two_secrets_side_by_side() -> None:
    """The one before is taken until the shop has changed; only the new one mints."""
    both = Identity("n" * 40, "", "", SystemClock(), "o" * 40)
    before = Identity("o" * 40, "", "", SystemClock())
    after = Identity("n" * 40, "", "", SystemClock())
    assert both.check(before.mint("u1")[0]) == both.check(after.mint("u1")[0]) == "u1"
    assert before.check(both.mint("u1")[0]) is None


# -- tokens that try to choose ---------------------------------------------------------------------


def by_hand(header: dict[str, Any], secret: bytes = b"") -> str:
    """A token with any header, with a MAC where a secret is given."""
    claims = {"sub": "u1", "aud": "flashgrab", "iss": "shop", "exp": int(time.time()) + 600}
    parts = [json.dumps(header).encode(), json.dumps(claims).encode()]
    text = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in parts)
    mac = hmac.digest(secret, text, "sha256") if secret else b""
    return (text + b"." + base64.urlsafe_b64encode(mac).rstrip(b"=")).decode()


def from_strange(**header: Any) -> str:
    """Signed by a key of the attacker's, which the header brings or points to."""
    return token(STRANGE, "", header)


def as_hs256(key: Private) -> list[str]:
    """The public key's forms as secrets of a MAC: what an algorithm switch would take."""
    der = base64.b64decode(b"".join(pem(key).splitlines()[1:-1]))
    forms = [pem(key), pem(key).strip(), der, json.dumps(jwk(key)).encode()]
    return [by_hand({"alg": "HS256", "kid": kid}, form) for form in forms for kid in ("r1", "e1")]


STRANGE_PEM = base64.b64encode(pem(STRANGE)).decode()
TIMES: list[Any] = ["0", "99999999999", True, [9_999_999_999], {}]
HOSTILE: dict[str, list[str]] = {
    "alg none": [by_hand({"alg": a}) for a in ("none", "None", "NONE", "nOnE", "", " none")],
    "alg missing": [by_hand({"kid": "e1"})],
    "alg no text": [by_hand({"alg": a}) for a in (None, 1, ["RS256"], {"alg": "RS256"}, True)],
    "HS256 by the public key": as_hs256(RSA) + as_hs256(ED),
    "HS256 by nothing": [by_hand({"alg": "HS256"}, b"\0"), by_hand({"alg": "HS256"})],
    "no signature": [token(k, "").rpartition(".")[0] + "." for k in (RSA, ED)],
    "another key": [token(STRANGE, "e1"), token(STRANGE, ""), token(rsa("b"), "r1")],
    "another kid": [token(ED, "e9"), token(ED, "r1"), token(RSA, "e1")],
    "kid a path": [token(STRANGE, k) for k in ("../../dev/null", "e1\0", "' or 1=1", "e1 ")],
    "the key of the header": [
        from_strange(jwk=jwk(STRANGE, "e1")),
        from_strange(jwk=jwk(STRANGE), kid="e1"),
        from_strange(x5c=[STRANGE_PEM]),
        from_strange(jku="http://127.0.0.1:9/keys", kid="e1"),
        from_strange(x5u="http://127.0.0.1:9/keys", kid="e1"),
    ],
    "RSA of another kind": [
        jwt.encode({"sub": "u1", "exp": 9_999_999_999}, RSA, algorithm=a, headers={"kid": "r1"})
        for a in ("RS384", "RS512", "PS256")
    ],
    "an extension": [token(ED, "e1", {"crit": ["exp"]}), token(ED, "e1", {"crit": ["x"], "x": 1})],
    "another audience": [token(ED, "e1", aud=a) for a in ("other", None, ["x"], "", 5)],
    "another issuer": [token(ED, "e1", iss=i) for i in ("other", None, "")],
    "not yet": [
        token(ED, "e1", nbf=int(time.time()) + 3600),
        token(ED, "e1", iat=int(time.time()) + 3600),
        token(ED, "e1", nbf=float("nan")),
    ],
    "over": [token(ED, "e1", exp=int(time.time()) - 1), token(ED, "e1", exp=0)],
    "no time": [token(ED, "e1", exp=None), token(ED, "e1", exp=float("inf"))],
    "time in letters": [token(ED, "e1", **{n: v}) for n in ("nbf", "iat", "exp") for v in TIMES],
    "nobody": [token(ED, "e1", sub=s) for s in (None, "", "a,b", "u1\n", "x" * 65)],
    "too long": [token(ED, "e1", more="x" * TOKEN_LENGTH_MAX)],
    "cut and doubled": [token(ED, "e1")[:-3], token(ED, "e1") + "." + token(ED, "e1"), "..", "."],
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_token_is_nobody(name: str, login: Login) -> None:
    """None, whatever else is in it, and never an exception; without a secret and with one."""
    with_secret = Identity(SECRET, "flashgrab", "shop", SystemClock(), "", login.keys)
    for hostile in HOSTILE[name]:
        assert login.identity.check(hostile) is None
        assert with_secret.check(hostile) is None


async def test_headers_that_bring_keys_change_nothing(login: Login) -> None:
    """The control: a good token that names a key besides is judged by ours."""
    named = {"jku": "http://127.0.0.1:9/keys", "jwk": jwk(STRANGE), "x5t": "AA"}
    assert login.identity.check(token(ED, "e1", named)) == "u1"


class At:
    """A clock that stands."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_ms(self) -> int:
        return self.at_ms


@pytest.mark.parametrize(
    "claims, ahead_ms, ok",
    [
        ({"exp": 1000}, -1, True),
        ({"exp": 1000}, 0, False),
        ({"exp": 1000.5}, 499, True),
        ({"exp": 9000, "nbf": 1000}, -LEEWAY_MS, True),
        ({"exp": 9000, "nbf": 1000}, -LEEWAY_MS - 1, False),
        ({"exp": 9000, "iat": 1000}, -LEEWAY_MS, True),
        ({"exp": 9000, "iat": 1000}, -LEEWAY_MS - 1, False),
    ],
)
async def test_times_to_the_millisecond(
    claims: dict[str, Any], ahead_ms: int, ok: bool, tmp_path: Path
) -> None:
    """By our own clock; the leeway is for what begins, not for what ends."""
    login = Login(tmp_path / "keys", clock=At(1_000_000 + ahead_ms))
    await login.has(jwks(jwk(ED, "e1")))
    assert login.identity.check(token(ED, "e1", **claims)) == ("u1" if ok else None)


# -- the file --------------------------------------------------------------------------------------


async def test_keys_rotate_without_losing_anyone(login: Login) -> None:
    """The new one beside the old one, then without it: who is signed in stays so."""
    old, new = token(ED, "e1"), token(NEXT, "e2")
    assert (login.identity.check(old), login.identity.check(new)) == ("u1", None)
    await login.has(jwks(jwk(ED, "e1"), jwk(NEXT, "e2")))
    assert (login.identity.check(old), login.identity.check(new)) == ("u1", "u1")
    await login.has(jwks(jwk(NEXT, "e2")))
    assert (login.identity.check(old), login.identity.check(new)) == (None, "u1")
    assert not login.is_alarmed()


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", jwks(), jwks(jwk(NEXT, "e2"))[:-9], private_pem(NEXT), b"\0" * 100_000],
    ids=["empty", "brace", "none", "half", "private", "large"],
)
async def test_a_broken_file_keeps_the_keys(broken: bytes, login: Login) -> None:
    """An alarm, the keys of before, and the new ones once the file is whole."""
    await login.has(broken)
    assert login.is_alarmed()
    assert login.identity.check(token(ED, "e1")) == "u1"
    assert login.identity.check(token(NEXT, "e2")) is None
    await login.has(jwks(jwk(NEXT, "e2")))
    assert not login.is_alarmed()
    assert login.identity.check(token(NEXT, "e2")) == "u1"


async def test_a_file_that_goes_away_keeps_the_keys(login: Login) -> None:
    """Gone, or a folder in its place: the same; back again unchanged ends it."""
    data = login.path.read_bytes()
    login.path.unlink()
    await login.keys.look()
    assert login.is_alarmed()
    login.path.mkdir()
    await login.keys.look()
    assert login.is_alarmed()
    assert login.identity.check(token(ED, "e1")) == "u1"
    login.path.rmdir()
    await login.has(data)
    assert not login.is_alarmed()


async def test_a_start_with_a_broken_file_waits_for_it(tmp_path: Path) -> None:
    """No keys, an alarm, nobody signed in; no exception."""
    login = await Login(tmp_path / "keys").has(b"{")
    assert login.is_alarmed()
    assert not login.identity.has_keys
    assert login.identity.check(token(ED, "e1")) is None
    await login.has(pem(ED))
    assert login.identity.has_keys
