"""Public keys as a file has them: a JWKS (RFC 7517), or one or several PEM public keys.

A key is good for the one algorithm that its own type decides, which no token can choose: RSA for
RS256, Ed25519 for EdDSA. A secret has no place in such a file, and makes all of it invalid.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, Literal, NamedTuple

import orjson
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers
from cryptography.hazmat.primitives.serialization import load_pem_public_key

FILE_BYTES_MAX = 65_536
KEYS_MAX = 16
RSA_BITS_MIN, RSA_BITS_MAX = 2048, 8192
"""Below it is no protection; above it every check is dear, for whoever sends junk too."""

SECRET_MEMBERS = {"d", "p", "q", "dp", "dq", "qi", "k"}
PEM_LABELS = (b"PUBLIC KEY", b"RSA PUBLIC KEY")

_PEM = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


class PublicKey(NamedTuple):
    """One key; `kid` is "" where it has no name."""

    kid: str
    algorithm: Literal["RS256", "EdDSA"]
    key: RSAPublicKey | Ed25519PublicKey


def read_keys(data: bytes) -> tuple[PublicKey, ...]:
    """All keys of a file that we can use. Raises ValueError, which quotes nothing of the file."""
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"more than {FILE_BYTES_MAX} bytes")
    keys = _of_jwks(data) if data.lstrip().startswith(b"{") else _of_pem(data)
    if not keys:
        raise ValueError("no RSA or Ed25519 key for signatures in it")
    if len(keys) > KEYS_MAX:
        raise ValueError(f"more than {KEYS_MAX} keys")
    named = [(key.kid, key.algorithm) for key in keys if key.kid]
    if len(set(named)) < len(named):
        raise ValueError("two keys have the same kid")
    return tuple(keys)


def to_jwk(kid: str, key: Ed25519PublicKey) -> dict[str, str]:
    """A key as a member of a JWKS."""
    x = urlsafe_b64encode(key.public_bytes_raw()).rstrip(b"=").decode()
    return {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": x}


def from_base64url(text: Any) -> bytes:
    """Base64url without padding (RFC 7515). Raises ValueError."""
    if not isinstance(text, str) or not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _of_jwks(data: bytes) -> list[PublicKey]:
    try:
        said = orjson.loads(data)
    except orjson.JSONDecodeError:
        raise ValueError("not JSON") from None  # its message quotes the file
    listed = said.get("keys")
    if not isinstance(listed, list) or not all(isinstance(jwk, dict) for jwk in listed):
        raise ValueError('expected {"keys": [{…}, …]}')
    found = []
    for number, jwk in enumerate(listed, 1):
        if SECRET_MEMBERS & jwk.keys():
            raise ValueError(f"key {number} is a secret one: this file is for public keys")
        try:
            key = _of_jwk(jwk)
        except (ValueError, KeyError, TypeError, OverflowError):
            raise ValueError(f"key {number} is broken") from None
        if key is not None:
            found.append(key)
    return found


def _of_jwk(jwk: dict[str, Any]) -> PublicKey | None:
    """None where it is for something else: encryption, another curve, another algorithm."""
    if jwk.get("use", "sig") != "sig" or "verify" not in jwk.get("key_ops", ["verify"]):
        return None
    kid = jwk.get("kid", "")
    if not isinstance(kid, str):
        raise TypeError("kid")
    if jwk.get("kty") == "RSA" and jwk.get("alg", "RS256") == "RS256":
        e, n = (int.from_bytes(from_base64url(jwk[name])) for name in ("e", "n"))
        return _public(kid, RSAPublicNumbers(e, n).public_key())
    if jwk.get("kty") == "OKP" and jwk.get("crv") == "Ed25519":
        if jwk.get("alg", "EdDSA") not in ("EdDSA", "Ed25519"):
            return None
        return _public(kid, Ed25519PublicKey.from_public_bytes(from_base64url(jwk["x"])))
    return None


def _of_pem(data: bytes) -> list[PublicKey]:
    found: list[PublicKey] = []
    for block in _PEM.finditer(data):
        if b"PRIVATE" in block[1]:
            raise ValueError("a private key is in it: this file is for public keys")
        if block[1] not in PEM_LABELS:
            raise ValueError("expected PEM blocks of PUBLIC KEY only")
        try:
            key = load_pem_public_key(block[0])
        except (ValueError, UnsupportedAlgorithm):
            raise ValueError(f"PEM block {len(found) + 1} is broken") from None
        found.append(_public("", key))
    return found


def _public(kid: str, key: Any) -> PublicKey:
    if isinstance(key, Ed25519PublicKey):
        return PublicKey(kid, "EdDSA", key)
    if not isinstance(key, RSAPublicKey):
        raise ValueError("expected RSA or Ed25519 keys")  # noqa: TRY004 -- the file is wrong, not us
    if not RSA_BITS_MIN <= key.key_size <= RSA_BITS_MAX:
        raise ValueError(f"an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits")
    return PublicKey(kid, "RS256", key)
