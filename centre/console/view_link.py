"""Read-only links to /ops for colleagues: signed, with an end, and over with what made them.

`fgv_MAKER_EXPIRES_MAC`: the token it was made with ("root" for ADMIN_TOKEN), ms since 1970 in hex,
and a MAC under a key made of ADMIN_TOKEN. It opens the console's data and no call of /v1.
"""

import hmac
import re
from dataclasses import dataclass

from flashgrab.ledger import staff
from flashgrab.ledger.pool import Pool
from flashgrab.ledger.staff import Holder
from flashgrab.staff import ROOT

VALID_S_MAX = 7 * 86_400
_FORM = re.compile(r"fgv_(root|[0-9a-f]{16})_([0-9a-f]{8,12})_([0-9a-f]{64})", re.ASCII)


@dataclass(frozen=True)
class ViewLinks:
    """Makes and opens them."""

    pool: Pool
    root_token: str

    async def make(self, by: Holder, valid_s: int, now_ms: int) -> tuple[str, int]:
        """A link's secret, and when it ends: not later than the token of who makes it."""
        maker = ROOT if by.id == ROOT else await staff.token_of(self.pool, by.id)
        expires_ms = min(now_ms + valid_s * 1000, by.expires_ms)
        shown = f"{maker}_{expires_ms:x}"
        return f"fgv_{shown}_{self._mac(shown)}", expires_ms

    async def is_good(self, text: str, now_ms: int) -> bool:
        """Whether it opens the console now. Raises LedgerUnavailable."""
        found = _FORM.fullmatch(text)
        if found is None:
            return False
        maker, expires, mac = found.groups()
        if not hmac.compare_digest(mac, self._mac(f"{maker}_{expires}")):
            return False
        if int(expires, 16) <= now_ms:
            return False
        return maker == ROOT or await staff.stands(self.pool, maker, now_ms)

    def _mac(self, shown: str) -> str:
        key = hmac.digest(self.root_token.encode(), b"flashgrab view link", "sha256")
        return hmac.digest(key, shown.encode(), "sha256").hex()
