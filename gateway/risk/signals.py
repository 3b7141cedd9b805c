"""What is read out of one request for a pass: a closed list of whole numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import pairwise

from gateway.risk.counters import Distinct, Rhythm

HOUR_MS = 3_600_000
BLOCK_MIN = 8
"""Accounts of an address block below which its shares say nothing."""

Signals = dict[str, int]
"""By name; one that is not known is not there, and no condition on it is met."""

NAMES = {
    "account_age_h": "hours since the account was made, by the claim of the identity token",
    "device_missing": "1 where no device was named",
    "device_accounts": "accounts on this device in the last ten minutes",
    "block_accounts": "accounts of this IPv4 /24 or IPv6 /64 in the last ten minutes",
    "block_young": "per cent of those that are young",
    "block_odd": "per cent of those without a page, too fast after it, or with an odd head",
    "page_missing": "1 where no page of ours was looked at",
    "page_ms": "from the page to this request, ms",
    "user_steady": "times in a row that this user came after the same pause",
    "block_steady": "times in a row that this block came after the same pause",
    "head_odd": "header fields that a browser sends and this one did not, and those out of order",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """One request for a pass. `created_ms` is when the account was made, `page_ms` when the page
    was given out, both None where not known; `head` the names of the header fields in order."""

    user_id: str
    device_id: str
    address: str
    head: Sequence[str]
    created_ms: int | None
    page_ms: int | None
    now_ms: int


class Observer:
    """Turns requests into signals. Four counters of 6 MB each and two rhythms of 1.7 MB."""

    def __init__(
        self, young_h: int, browsers: Sequence[Sequence[str]], odd_from: int, fast_ms: int
    ) -> None:
        self._fast_ms = fast_ms
        self._young_h = young_h
        self._odd_from = odd_from
        self._browsers = [{name: place for place, name in enumerate(b)} for b in browsers]
        self._devices = Distinct()
        self._block, self._block_young, self._block_odd = Distinct(), Distinct(), Distinct()
        self._users_rhythm, self._blocks_rhythm = Rhythm(), Rhythm()

    def observe(self, asked: Asked) -> Signals:
        """The signals of this request, which is counted in."""
        now_ms, user = asked.now_ms, asked.user_id
        found = {
            "device_missing": int(not asked.device_id),
            "page_missing": int(asked.page_ms is None),
            "head_odd": self.oddness(asked.head),
            "user_steady": self._users_rhythm.beat(user, now_ms),
        }
        if asked.created_ms is not None:
            found["account_age_h"] = max(0, now_ms - asked.created_ms) // HOUR_MS
        if asked.page_ms is not None:
            found["page_ms"] = max(0, now_ms - asked.page_ms)
        if asked.device_id:
            found["device_accounts"] = self._devices.add(asked.device_id, user, now_ms)
        block = block_of(asked.address)
        if block:
            found |= self._of_block(block, user, found, now_ms)
        return found

    def _of_block(self, block: str, user: str, found: Signals, now_ms: int) -> Signals:
        accounts = self._block.add(block, user, now_ms)
        young = found.get("account_age_h", self._young_h) < self._young_h
        hasty = found.get("page_ms", 0) < self._fast_ms  # without a page too
        odd = hasty or found["head_odd"] >= self._odd_from
        counted = [
            c.add(block, user, now_ms) if counts else c.count(block, now_ms)
            for c, counts in ((self._block_young, young), (self._block_odd, odd))
        ]
        of_block = {
            "block_accounts": accounts,
            "block_steady": self._blocks_rhythm.beat(block, now_ms),
        }
        if accounts >= BLOCK_MIN:
            shares = [min(100, 100 * count // accounts) for count in counted]
            of_block |= {"block_young": shares[0], "block_odd": shares[1]}
        return of_block

    def oddness(self, head: Sequence[str]) -> int:
        """How far the order of a head is from that of the nearest known browser."""
        return min((_distance(head, browser) for browser in self._browsers), default=0)


def block_of(address: str) -> str:
    """The IPv4 /24 or IPv6 /64 that an address is in; "" where it is none."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    if ip.version == 6 and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    kept = ip.packed[:3] if ip.version == 4 else ip.packed[:8]
    return kept.hex()


def _distance(head: Sequence[str], browser: dict[str, int]) -> int:
    """Fields that the browser always sends and this head lacks, and those that stand before one
    that the browser sends earlier. What the browser does not send (a proxy's) is passed over."""
    places = [browser[name] for name in head if name in browser]
    missing = len(browser) - len(set(places))
    return missing + sum(b < a for a, b in pairwise(places))
