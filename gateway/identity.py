"""Who the shop says that somebody is: its own signed tokens (JWT).

By a secret that the shop shares with us (HS256), by the public keys of its login (RS256, EdDSA), or
by both while it changes over. A token is checked by those keys alone whose own type is what its
header names: it can choose among keys, never how one of them is used, and it brings none.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jwt

from flashgrab.clock import Clock
from flashgrab.ids import is_user_id
from gateway.login_keys import LoginKeys

DEMO_TOKEN_S = 24 * 3600
TOKEN_LENGTH_MAX = 4096
"""Characters; longer ones are refused unread."""
LEEWAY_MS = 5000
"""How far a shop's clock may be ahead of ours: for nbf and iat. A token that ended has ended."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Checks and, for the demo, mints identity tokens. `key` is "" where no secret is configured,
    `old_key` is one that is taken besides; `file` holds the public keys."""

    key: str
    audience: str
    issuer: str
    clock: Clock
    old_key: str = ""
    file: LoginKeys | None = None

    @property
    def has_keys(self) -> bool:
        """Whether any token can be judged now."""
        return bool(self.key or self.old_key or (self.file and self.file.keys))

    def check(self, token: str) -> str | None:
        """The user id of a token, or None: bad, expired, of another audience are one answer."""
        if len(token) > TOKEN_LENGTH_MAX:
            return None
        try:
            header = jwt.get_unverified_header(token)
            if "crit" in header:  # we know no extension
                return None
            for algorithm, key in self._keys_for(header):
                claims = self._claims(token, algorithm, key)
                if claims is not None:
                    return self._subject(claims)
        except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        return None

    def _keys_for(self, header: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """Those that this header may mean: of its algorithm and of its kid, where both say one."""
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if algorithm == "HS256":
            for secret in (self.key, self.old_key):
                if secret:
                    yield "HS256", secret
            return
        for known in self.file.keys if self.file else ():
            if known.algorithm == algorithm and (not kid or not known.kid or kid == known.kid):
                yield known.algorithm, known.key

    def _claims(self, token: str, algorithm: str, key: Any) -> dict[str, Any] | None:
        """None where another key has signed it; raises where anything else is wrong."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.audience or None,
                issuer=self.issuer or None,
                options=_options(bool(self.audience)),
            )
        except jwt.InvalidSignatureError:
            return None
        return claims

    def _subject(self, claims: dict[str, Any]) -> str | None:
        now_ms = self.clock.now_ms()
        times = {name: claims[name] for name in ("exp", "nbf", "iat") if name in claims}
        if any(type(at_s) not in (int, float) for at_s in times.values()):
            return None
        if int(times["exp"] * 1000) <= now_ms:
            return None
        if not all(times.get(name, 0) * 1000 <= now_ms + LEEWAY_MS for name in ("nbf", "iat")):
            return None  # NaN too
        subject = claims["sub"]
        return subject if is_user_id(subject) else None

    def mint(self, user_id: str) -> tuple[str, int]:
        """A token of the demo, and when it expires (ms)."""
        now_s = self.clock.now_ms() // 1000
        expires_s = now_s + DEMO_TOKEN_S
        claims: dict[str, str | int] = {"sub": user_id, "iat": now_s, "exp": expires_s}
        if self.audience:
            claims["aud"] = self.audience
        if self.issuer:
            claims["iss"] = self.issuer
        return jwt.encode(claims, self.key, algorithm="HS256"), expires_s * 1000


def _options(audience: bool) -> Any:
    """Of the library's checks; times are judged by our own clock."""
    no_times = dict.fromkeys(("verify_exp", "verify_nbf", "verify_iat"), False)
    return {"require": ["sub", "exp"], "verify_aud": audience, **no_times}
