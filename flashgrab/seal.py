"""Short signed strings that their maker need not remember, each kind under a key of its own.

Form: `KID/FIELD/…/MAC`, keyed BLAKE2s (16 bytes, hex) as in passes.py. The keys are derived from
those of the passes, so that they rotate with them and no secret more has to be kept.
"""

from hashlib import blake2s
from hmac import compare_digest

from flashgrab.passes import MAC_BYTES, PassKeys, mac

SEALED_LENGTH_MAX = 512


class Seal:
    """Signs and opens strings of one purpose; those of another purpose are none."""

    def __init__(self, keys: PassKeys, purpose: bytes) -> None:
        """`purpose` begins no pass: a pass begins with `v1.`."""
        self._keys = {kid: _derived(key, purpose) for kid, key in keys.keys.items()}
        self._kid = next(iter(self._keys))

    def sign(self, *fields: str) -> str:
        """The fields, which hold no slash, as one string."""
        body = "/".join((self._kid, *fields))
        return f"{body}/{mac(self._keys[self._kid], body)}"

    def open(self, sealed: str) -> list[str] | None:
        """The fields, or None: signed by nobody, cut short, changed are one answer."""
        body, _, signed = sealed.rpartition("/")
        kid, _, rest = body.partition("/")
        key = self._keys.get(kid)
        if key is None or len(sealed) > SEALED_LENGTH_MAX or not sealed.isascii():
            return None
        return rest.split("/") if compare_digest(mac(key, body), signed) else None


def _derived(key: "blake2s", purpose: bytes) -> "blake2s":
    made = key.copy()
    made.update(purpose)
    return blake2s(key=made.digest(), digest_size=MAC_BYTES)
