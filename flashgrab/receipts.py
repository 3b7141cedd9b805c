"""Receipts: what a gateway says of a grab, signed, so that anybody can check it offline.

A receipt is a compact JWS (RFC 7515) by Ed25519. It says what was so at its time: a coupon can be
returned afterwards, so whoever takes receipts asks for young ones. Signed where a grab is looked
at, never where it is granted.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from flashgrab.ids import is_user_id, split_grab_id
from flashgrab.jwks import PublicKey, from_base64url, to_jwk
from flashgrab.passes import split_kid

KEY_BYTES = 32
RECEIPT_LENGTH_MAX = 2048
TYPE = "flashgrab-receipt"
"""In the header, so that nothing else that such a key might sign is taken for a receipt."""
STATES = ("GRANTED", "PERSISTED", "RETURNED")


class Receipt(NamedTuple):
    """What it says: whose grab it is, and its state at `at_s` (seconds since 1970)."""

    grab_id: str
    user_id: str
    round: int
    serial: int
    state: str
    at_s: int


@dataclass(frozen=True, slots=True)
class ReceiptKeys:
    """Signing keys by kid: the first signs, the public halves of all are told."""

    keys: Mapping[str, Ed25519PrivateKey] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "ReceiptKeys":
        """`kid:seed,kid:seed`, the seed 32 bytes as base64url; "" for none. Raises ValueError."""
        keys: dict[str, Ed25519PrivateKey] = {}
        for number, part in enumerate(text.split(",") if text else (), 1):
            kid, seed = split_kid(part)
            if kid in keys:
                raise ValueError(f"kid {kid} is there twice")
            try:
                keys[kid] = Ed25519PrivateKey.from_private_bytes(from_base64url(seed))
            except ValueError:
                raise ValueError(
                    f"key {number} is not {KEY_BYTES} bytes as base64url (flashgrab receipt key)"
                ) from None
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self.keys)

    def sign(self, receipt: Receipt) -> str:
        """The receipt as a compact JWS."""
        kid, key = next(iter(self.keys.items()))
        claims = {
            "sub": receipt.user_id,
            "iat": receipt.at_s,
            "grab_id": receipt.grab_id,
            "round": receipt.round,
            "serial": receipt.serial,
            "state": receipt.state,
        }
        return jwt.encode(claims, key, algorithm="EdDSA", headers={"kid": kid, "typ": TYPE})

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves."""
        return {"keys": [to_jwk(kid, key.public_key()) for kid, key in self.keys.items()]}


def new_key(kid: str) -> str:
    """A key as `parse` takes it."""
    seed = Ed25519PrivateKey.generate().private_bytes_raw()
    return f"{kid}:{urlsafe_b64encode(seed).rstrip(b'=').decode()}"


def verify(text: str, keys: Sequence[PublicKey]) -> Receipt | None:
    """What a receipt says, or None: forged, changed, by another key, of another kind."""
    if len(text) > RECEIPT_LENGTH_MAX:
        return None
    try:
        header = jwt.get_unverified_header(text)
        if header.get("typ") != TYPE or "crit" in header:
            return None
        for key in keys:
            if key.algorithm == "EdDSA" and key.kid in ("", header.get("kid")):
                said = _checked(text, key)
                if said is not None:
                    return said
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
        return None
    return None


def _checked(text: str, key: PublicKey) -> Receipt | None:
    options: Any = {f"verify_{claim}": False for claim in ("exp", "nbf", "iat", "aud", "iss")}
    try:
        claims: dict[str, Any] = jwt.decode(
            text, key.key, algorithms=[key.algorithm], options=options
        )
    except jwt.InvalidSignatureError:
        return None
    return _receipt(claims)


def _receipt(claims: dict[str, Any]) -> Receipt | None:
    numbers = [claims.get(name) for name in ("round", "serial", "iat")]
    grab_id, user_id, state = (claims.get(name) for name in ("grab_id", "sub", "state"))
    if not all(type(number) is int and number > 0 for number in numbers):
        return None
    if not isinstance(grab_id, str) or not isinstance(user_id, str) or state not in STATES:
        return None
    named = split_grab_id(grab_id)
    if named is None or named[1] != claims["serial"] or not is_user_id(user_id):
        return None
    return Receipt(grab_id, user_id, claims["round"], claims["serial"], state, claims["iat"])
