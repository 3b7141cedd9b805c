"""Who the shop says that somebody is: its own signed tokens (JWT, HS256)."""

from dataclasses import dataclass

import jwt

from flashgrab.clock import Clock
from flashgrab.ids import is_user_id

DEMO_TOKEN_S = 24 * 3600


@dataclass(frozen=True, slots=True)
class Identity:
    """Checks and, for the demo, mints identity tokens. `key` is "" where none is configured."""

    key: str
    audience: str
    issuer: str
    clock: Clock

    def check(self, token: str) -> str | None:
        """The user id of a token, or None: bad, expired, of another audience are one answer."""
        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=["HS256"],
                audience=self.audience or None,
                issuer=self.issuer or None,
                options={"require": ["sub", "exp"], "verify_aud": bool(self.audience)},
            )
        except (jwt.InvalidTokenError, ValueError, TypeError, OverflowError, RecursionError):
            return None
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
