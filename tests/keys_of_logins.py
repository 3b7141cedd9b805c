"""Keys of a shop's login as the tests make them, and files and tokens of theirs."""

import json
import time
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

Private = RSAPrivateKey | Ed25519PrivateKey


@cache
def rsa(name: str, bits: int = 2048) -> RSAPrivateKey:
    """One RSA key a name: making them is slow."""
    assert name
    return generate_private_key(public_exponent=65537, key_size=bits)


@cache
def ed25519(name: str) -> Ed25519PrivateKey:
    assert name
    return Ed25519PrivateKey.generate()


def pem(key: Private) -> bytes:
    """The public half."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def private_pem(key: Private) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def jwk(key: Private, kid: str = "", **changes: Any) -> dict[str, Any]:
    """The public half as a member of a JWKS; a change of None takes a member away."""
    kinds = jwt.algorithms.RSAAlgorithm, jwt.algorithms.OKPAlgorithm
    public: Any = key.public_key()
    made = json.loads(kinds[isinstance(key, Ed25519PrivateKey)].to_jwk(public))
    made |= {"kid": kid} if kid else {}
    return {k: v for k, v in {**made, **changes}.items() if v is not None}


def jwks(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": keys}).encode()


def token(key: Private, kid: str = "", head: dict[str, Any] | None = None, **changes: Any) -> str:
    """A login's token, signed as the key's type has it; a claim of None is left out."""
    claims = {"sub": "u1", "aud": "flashgrab", "iss": "shop", "exp": int(time.time()) + 600}
    claims = {k: v for k, v in {**claims, **changes}.items() if v is not None}
    algorithm = "EdDSA" if isinstance(key, Ed25519PrivateKey) else "RS256"
    headers = ({"kid": kid} if kid else {}) | (head or {})
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)
