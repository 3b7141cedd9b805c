"""The rate limits of a campaign as policies: what is counted, how often, under which name.

A rate of `5/10s` lets five requests through at once, and five more each ten seconds, one every two
(GCRA; lua/limit.lua counts, exactly). Of addresses an IPv4 address is limited, and besides it its
/24, which may have NEIGHBOURS times as much; of IPv6 its /64, which is what one home is given.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any, Literal

from flashgrab import keys

Scope = Literal["user", "device", "address", "campaign", "passes"]

NEIGHBOURS = 8
"""A /24 is often one office or one provider's gateway, with many buyers who know nothing of each
other; at 1 they would be limited by their neighbours, without a bound a block is never too much."""
KNOWN_ADDRESSES = 65_536
_RATE = re.compile(r"([0-9]+)/([0-9]+)([smh])")
ENDS = {
    "user": ("u:", 0),
    "passes": ("p:", 0),
    "device": ("d:", 1),
    "address": ("a:", 2),
    "network": ("n:", 3),
    "campaign": ("", 4),
}
"""Name of a policy → kind of its counter (keys.limit), and which part of a request is behind it."""
_SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """One limit: `burst` requests at once, and as many in each `window_us`. Compared by identity:
    it is what counters are looked up by."""

    scope: Scope
    name: str
    burst: int
    window_us: int


@dataclass(frozen=True, slots=True, eq=False)
class Policies:
    """All that a request of one kind is counted against; one object as long as they stand."""

    policies: tuple[Policy, ...]
    parts: tuple[tuple[bytes, int], ...]
    """Of the name of a policy's counter: its beginning, and which part of a request ends it."""
    text: str
    """As lua/limit.lua takes them."""

    def names(
        self, user: bytes, device: bytes, networks: tuple[bytes, bytes]
    ) -> list[bytes | None]:
        """The counters of one request, one a policy; None: it has no such thing."""
        ends = (user, device, *networks, b"c")
        return [start + ends[at] if ends[at] else None for start, at in self.parts]


def parse_rate(text: str) -> tuple[int, int]:
    """`5/10s` as burst and window in µs. Raises ValueError: it is none."""
    match = _RATE.fullmatch(text)
    if match is None or not int(match[1]) or not int(match[2]):
        raise ValueError('expected a rate such as "5/10s" or "100/1m"')
    return int(match[1]), int(match[2]) * _SECONDS[match[3]] * 1_000_000


def of_grabs(campaign_id: str, limits: Mapping[str, Any] | None) -> Policies | None:
    """What each grab is counted against; None: nothing. `limits`: of the public definition."""
    made: list[Policy] = []
    for scope in ("user", "device", "address", "campaign"):
        rate = limits.get(scope) if limits else None
        if not rate:
            continue
        burst, window_us = parse_rate(rate)
        made.append(Policy(scope, scope, burst, window_us))
        if scope == "address":
            made.append(Policy("address", "network", burst * NEIGHBOURS, window_us))
    return _policies(campaign_id, made)


def of_passes(campaign_id: str, limits: Mapping[str, Any] | None) -> Policies | None:
    """What each request for a pass is counted against: one user's rate."""
    rate = limits.get("passes") if limits else None
    return _policies(campaign_id, [Policy("passes", "passes", *parse_rate(rate))] if rate else [])


def _policies(campaign_id: str, made: list[Policy]) -> Policies | None:
    if not made:
        return None
    parts = tuple(
        (keys.limit(campaign_id, ENDS[p.name][0]).encode(), ENDS[p.name][1]) for p in made
    )
    text = "".join(f"{policy.burst},{policy.window_us};" for policy in made)
    return Policies(tuple(made), parts, text)


NOWHERE = (b"", b"")


@lru_cache(KNOWN_ADDRESSES)
def networks(host: str) -> tuple[bytes, bytes]:
    """What an address is limited by: IPv4 itself and its /24, IPv6 its /64 and nothing more.

    NOWHERE for what is no address, such as a unix socket's.
    """
    try:
        address = ip_address(host)
    except ValueError:
        return NOWHERE
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is None:
            return address.packed[:8].hex().encode(), b""
        address = address.ipv4_mapped
    return str(address).encode(), address.packed[:3].hex().encode()
