"""Staff of the shop: their roles, and the form of what they show to the centre (no I/O).

A credential is `fgt_ID_SECRET`: the id finds its row, the secret proves it. The secret has 256
random bits, so one SHA-256 keeps it: nobody guesses it, and a slow hash would only be a way to
keep the centre busy.
"""

import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import Literal, NamedTuple

Kind = Literal["token", "link", "session"]


class Role(StrEnum):
    """What somebody may do; centre/access.py says which role may which call."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    MERCHANDISER = "merchandiser"
    APPROVER = "approver"
    ADMIN = "admin"


ROOT = "root"
"""Who holds ADMIN_TOKEN: an admin that no table knows and nobody can revoke."""

_LETTERS: dict[Kind, str] = {"token": "t", "link": "l", "session": "s"}
_ID = r"[0-9a-f]{16}"
_FORM = {kind: re.compile(rf"fg{letter}_({_ID})_([A-Za-z0-9_-]{{43}})", re.ASCII)
         for kind, letter in _LETTERS.items()}  # fmt: skip
_NOBODY = bytes(32)

is_credential_id = re.compile(_ID, re.ASCII).fullmatch


class Credential(NamedTuple):
    """What its holder shows; only the hash of the secret is ever kept."""

    kind: Kind
    id: str
    secret: str

    def shown(self) -> str:
        """As the holder gets it, once."""
        return f"fg{_LETTERS[self.kind]}_{self.id}_{self.secret}"

    def hashed(self) -> bytes:
        """As the ledger keeps it."""
        return hashlib.sha256(self.secret.encode()).digest()

    def is_of(self, kept: bytes | None) -> bool:
        """Whether this is the secret of a kept hash, in the same time wherever they differ, and
        also where nothing is kept."""
        return hmac.compare_digest(self.hashed(), kept or _NOBODY) and kept is not None

    def csrf(self) -> str:
        """What a page sends beside a session's cookie with each write: it needs no memory, and
        does not give the secret away."""
        return hmac.digest(self.secret.encode(), b"csrf", "sha256").hex()


def make(kind: Kind) -> Credential:
    """A new one."""
    return Credential(kind, secrets.token_hex(8), secrets.token_urlsafe(32))


def read(kind: Kind, text: str) -> Credential | None:
    """What somebody shows; None where it has not the form."""
    found = _FORM[kind].fullmatch(text)
    return Credential(kind, found[1], found[2]) if found else None
