"""The pass: a short signed token that lets one user grab in one campaign, checked without I/O.

Form: `v1.KID/CAMPAIGN/USER/DEVICE/EXPIRES_MS/MAC`, an `@` of an id written as `+`, so that it is
a token68 (RFC 9110) without an encoding. MAC is keyed BLAKE2s (16 bytes, hex) over all before its
slash: BLAKE2s, because it is the cheapest keyed MAC of the standard library (docs/decisions.md).
"""

from binascii import hexlify
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from hmac import compare_digest
from typing import NamedTuple

from flashgrab.ids import is_campaign_id, is_device_id, is_user_id

MAC_BYTES = 16
PASS_LENGTH_MAX = 512
_SIGNED = -2 * MAC_BYTES - 1
"""Where what is signed ends: before the slash and the MAC. A MAC of another length is none."""


class Pass(NamedTuple):
    """What a valid pass says. `device` is "" where none was given at issue."""

    campaign_id: str
    user_id: str
    device_id: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class PassKeys:
    """Signing keys by kid. The first signs, all verify, so that keys rotate without a gap."""

    keys: Mapping[str, blake2s] = field(repr=False)
    _by_start: Mapping[bytes, blake2s] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        by_start = {b"v1." + kid.encode(): key for kid, key in self.keys.items()}
        object.__setattr__(self, "_by_start", by_start)

    @classmethod
    def parse(cls, text: str) -> "PassKeys":
        """`kid:key,kid:key`, the key at least 32 characters. Raises ValueError otherwise."""
        return cls(signing_keys(text, b"fg-pass"))

    def sign(self, what: Pass) -> str:
        """The pass as a token; the ids must be of their forms (ids.py)."""
        kid, key = next(iter(self.keys.items()))
        fields = f"{what.campaign_id}/{what.user_id}/{what.device_id}/{what.expires_ms}"
        body = f"v1.{kid}/{fields.replace('@', '+')}"
        return f"{body}/{mac(key, body)}"

    def check(self, token: str, now_ms: int) -> Pass | None:
        """What the token says, or None: bad, expired, unsigned and unknown are one answer."""
        if not token.isascii() or (fields := self.verify(token.encode(), now_ms)) is None:
            return None
        campaign_id, user_id, device_id, expires_ms = (field.decode() for field in fields[1:5])
        return Pass(campaign_id, user_id, device_id, int(expires_ms))

    def verify(self, token: bytes, now_ms: int) -> list[bytes] | None:
        """check() for the hot path: version and kid, campaign, user, device, expiry, MAC."""
        fields = token.split(b"/")
        key = self._by_start.get(fields[0])
        if key is None or len(token) > PASS_LENGTH_MAX:
            return None
        signed = key.copy()  # keyed once: half the cost of a new one
        signed.update(token[:_SIGNED])
        if not compare_digest(hexlify(signed.digest()), fields[-1]):
            return None
        if b"+" in token:
            fields = token.replace(b"+", b"@").split(b"/")
        return fields if int(fields[4]) > now_ms else None


def signing_keys(text: str, person: bytes) -> dict[str, "blake2s"]:
    """By kid, of the text of PASS_KEYS; those of another `person` sign nothing that these take.
    Raises ValueError."""
    return {
        kid: blake2s(key=blake2s(key.encode(), person=person).digest(), digest_size=MAC_BYTES)
        for kid, key in key_texts(text).items()
    }


def split_kid(part: str) -> tuple[str, str]:
    """Kid and key of `kid:key`. Raises ValueError on a kid that is none, without the key in it."""
    kid, _, key = part.strip().partition(":")
    if not kid.isalnum() or not kid.isascii() or len(kid) > 16:
        raise ValueError("a kid is 1 to 16 letters or digits, written kid:key")
    return kid, key


def key_texts(text: str) -> dict[str, str]:
    """Keys by kid, of `kid:key,kid:key`. Raises ValueError, without any key in it."""
    keys: dict[str, str] = {}
    for number, part in enumerate(text.split(","), 1):
        kid, key = split_kid(part)
        if len(key) < 32:
            raise ValueError(f"key {number} needs at least 32 characters")
        if kid in keys:
            raise ValueError(f"kid {kid} is there twice")
        keys[kid] = key
    return keys


def issue(keys: PassKeys, campaign_id: str, user_id: str, device_id: str, expires_ms: int) -> str:
    """Sign a pass after checking the forms of its ids. Raises ValueError on a bad one."""
    if not is_campaign_id(campaign_id):
        raise ValueError(f"not a campaign id: {campaign_id!r}")
    if not is_user_id(user_id):
        raise ValueError(f"not a user id: {user_id!r}")
    if device_id and not is_device_id(device_id):
        raise ValueError(f"not a device id: {device_id!r}")
    return keys.sign(Pass(campaign_id, user_id, device_id, expires_ms))


def mac(key: "blake2s", body: str) -> str:
    """Hex, of what is signed."""
    signed = key.copy()  # keyed once: half the cost of a new one
    signed.update(body.encode())
    return signed.hexdigest()
