"""Files of public keys: what is taken, what is passed over, what makes all of it invalid."""

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from flashgrab.jwks import FILE_BYTES_MAX, KEYS_MAX, read_keys, to_jwk
from tests.keys_of_logins import ed25519, jwk, jwks, pem, private_pem, rsa

RSA, ED = rsa("a"), ed25519("a")


def named(data: bytes) -> list[tuple[str, str]]:
    return [(key.kid, key.algorithm) for key in read_keys(data)]


def test_a_jwks_gives_its_signing_keys() -> None:
    """RSA for RS256, Ed25519 for EdDSA; with and without the members that say so."""
    data = jwks(
        jwk(RSA, "r1"), jwk(ED, "e1"), jwk(ED, "e2", use="sig", alg="EdDSA"),
        jwk(RSA, key_ops=None, alg="RS256"),
    )  # fmt: skip
    assert named(data) == [("r1", "RS256"), ("e1", "EdDSA"), ("e2", "EdDSA"), ("", "RS256")]
    assert read_keys(data)[0].key == RSA.public_key()
    assert read_keys(data)[1].key == ED.public_key()


def test_pem_blocks_give_keys_without_a_name() -> None:
    """One or several in a file, whatever is written between them."""
    assert named(pem(RSA)) == [("", "RS256")]
    assert named(b"# old\n" + pem(RSA) + b"# new\n" + pem(ED)) == [("", "RS256"), ("", "EdDSA")]


def test_our_own_keys_are_read_back() -> None:
    """What the gateway tells of its receipts' keys is such a file."""
    assert read_keys(jwks(to_jwk("r1", ED.public_key())))[0].key == ED.public_key()


@pytest.mark.parametrize(
    "other",
    [
        jwk(RSA, "x", use="enc"),
        jwk(RSA, "x", alg="PS256"),
        jwk(RSA, "x", alg="RS512"),
        jwk(RSA, "x", key_ops=["encrypt"]),
        jwk(ED, "x", alg="ES256"),
        jwk(ED, "x", crv="X25519"),
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "later", "new": 1},
        {},
    ],
)
def test_keys_for_something_else_are_passed_over(other: dict[str, Any]) -> None:
    """A login's file may hold more than we need; alone it is of no use to us."""
    assert named(jwks(other, jwk(ED, "e1"))) == [("e1", "EdDSA")]
    with pytest.raises(ValueError, match="no RSA or Ed25519 key"):
        read_keys(jwks(other))


EC_PEM = (
    ec.generate_private_key(ec.SECP256R1())
    .public_key()
    .public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
)
SECRET = json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED))
BROKEN: dict[str, bytes] = {
    "empty": b"",
    "text": b"key",
    "half a file": jwks(jwk(RSA, "r1"))[:-40],
    "not an object": b"[]",
    "no keys": b"{}",
    "keys not a list": b'{"keys":{}}',
    "keys of texts": b'{"keys":["a"]}',
    "an empty list": b'{"keys":[]}',
    "very deep": b'{"keys":' + b"[" * 30_000,
    "not UTF-8": b'{"keys":"\xff"}',
    "a private key": jwks(jwk(RSA, "r1"), SECRET),
    "a shared secret": jwks(jwk(RSA, "r1"), {"kty": "oct", "k": "c2VjcmV0"}),
    "a private PEM": private_pem(RSA),
    "a private PEM beside": pem(ED) + private_pem(RSA),
    "another PEM": b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
    "a broken PEM": pem(RSA).replace(b"A", b"B"),
    "a PEM of another curve": EC_PEM,
    "half a PEM": pem(RSA)[:200],
    "a short RSA key": pem(rsa("short", 1024)),
    "a short RSA JWK": jwks(jwk(rsa("short", 1024), "r1")),
    "n missing": jwks(jwk(RSA, "r1", n=None)),
    "n a number": jwks(jwk(RSA, "r1", n=5)),
    "n not base64url": jwks(jwk(RSA, "r1", n="+/==")),
    "e even": jwks(jwk(RSA, "r1", e="AAAA")),
    "x too short": jwks(jwk(ED, "e1", x="AAAA")),
    "kid not a text": jwks({**jwk(RSA), "kid": 5}),
    "key_ops not a list": jwks(jwk(RSA, "r1", key_ops=5)),
    "a kid twice": jwks(jwk(ED, "e1"), jwk(ed25519("b"), "e1")),
    "too many": jwks(*[jwk(ED, f"e{n}") for n in range(KEYS_MAX + 1)]),
    "too long": pem(ED) + b"#" * FILE_BYTES_MAX,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_a_value_error(name: str) -> None:
    """Nothing of it is taken, and the message quotes nothing of it."""
    with pytest.raises(ValueError, match=r"\w") as caught:
        read_keys(BROKEN[name])
    assert len(str(caught.value)) < 100
    assert SECRET["d"] not in str(caught.value)
