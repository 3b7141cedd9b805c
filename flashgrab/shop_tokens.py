"""The tokens by which the shop's own backend asks about any user's coupons.

Kept as SHA-256 only: a token is long and random (`TOKEN_LENGTH_MIN`), so its plain digest can't be
turned back, and whoever reads the settings has no token.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest

TOKEN_LENGTH_MIN, TOKEN_LENGTH_MAX = 16, 512

_ENTRY = re.compile(r"([A-Za-z0-9_-]{1,32}):([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True, slots=True)
class ShopTokens:
    """Digests by the names of those who hold the tokens."""

    digests: Mapping[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "ShopTokens":
        """`name:sha256,…` in hex; "" for none. Raises ValueError."""
        digests: dict[str, bytes] = {}
        for part in text.split(",") if text else ():
            entry = _ENTRY.fullmatch(part.strip())
            if entry is None:
                raise ValueError("expected name:SHA-256 of the token, 64 hex digits in lower case")
            if entry[1] in digests:
                raise ValueError(f"name {entry[1]} is there twice")
            digests[entry[1]] = bytes.fromhex(entry[2])
        return cls(digests)

    def check(self, token: str) -> str | None:
        """Whose token it is, or None. Compares with all of them, each in constant time."""
        if not self.digests or not TOKEN_LENGTH_MIN <= len(token) <= TOKEN_LENGTH_MAX:
            return None
        digest, found = sha256(token.encode()).digest(), None
        for name, kept in self.digests.items():
            if compare_digest(digest, kept):
                found = name
        return found
