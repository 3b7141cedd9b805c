"""Who a request is from where proxies stand before us: only those that are listed are believed.

Each hop appends the address that it saw, so the list is read from its right end; the first address
there that is no proxy of ours is the buyer's, and what stands left of it anybody may have written.
One field is read, the one that our proxies set; the other may come from the buyer through them.
"""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from gateway.plain import FIELDS_MAX

FORWARDED = "forwarded"
HOPS_MAX = 16

Networks = tuple[IPv4Network | IPv6Network, ...]

_PAIR = re.compile(r'[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=([^\s",;\\]*|"[^",;\\]*")[ \t]*')
_V4_PORT = re.compile(r"([0-9.]+)(?::[0-9]{1,5})?")
_V6_PORT = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::[0-9]{1,5})?")


class Proxies:
    """The listed networks, and the field in which they name the buyer (RFC 7239, or the older
    X-Forwarded-For)."""

    def __init__(self, networks: Sequence[str], field: str) -> None:
        self._networks: Networks = tuple(ip_network(n) for n in networks)
        self._field = field.encode()
        self._read = _of_element if field == FORWARDED else _address
        # In a head of plain text only, and a line that is not folded.
        self._line = re.compile(
            rb"\r\n(?i:%s):[\t\x20-\x7e\x80-\xff]*(?=\r\n[^ \t])" % re.escape(self._field)
        )
        self._values = re.compile(rb"\r\n(?i:%s):[ \t]*([^\r\n]*)" % re.escape(self._field)).findall
        self.trusts = lru_cache(4096)(self._trusts)

    def _trusts(self, host: str) -> bool:
        """Whether this is the address of one of them."""
        address = parsed(host)
        if address is None:
            return False
        found = ip_address(address)
        return any(found in network for network in self._networks)

    def buyer(self, peer: str, values: Iterable[bytes]) -> str:
        """The right-most address that is no proxy's. `peer` is who speaks to us, `values` are those
        of the field, in order. What cannot be read ends the search at the hop right of it."""
        host = parsed(peer) or peer
        if not self.trusts(host):
            return host
        left = b",".join(values).decode("latin-1")
        for _ in range(HOPS_MAX):
            left, _, hop = left.rpartition(",")
            found = self._read(hop)
            if found is None:  # also where nothing is left
                break
            host = found
            if not self.trusts(host):
                break
        return host

    def of_fields(self, peer: str, fields: Iterable[tuple[bytes, bytes]]) -> str:
        """The same of a head that was parsed; names are in lower case."""
        return self.buyer(peer, [value for name, value in fields if name == self._field])

    def of_head(self, peer: str, head: bytes) -> str:
        """The same of a plain head as it came."""
        return self.buyer(peer, self._values(head))

    def without(self, head: bytes) -> bytes:
        """A head without this field's first line, which differs from buyer to buyer: the rest then
        looks like other heads of the same proxy (gateway/plain.py). As it is where the rest would
        not be judged as the whole is."""
        found = self._line.search(head)
        if found is None or head.count(b"\r\n") > FIELDS_MAX + 2:
            return head
        return head[: found.start()] + head[found.end() :]


@lru_cache(4096)
def parsed(host: str) -> str | None:
    """An address in its one usual form, an IPv4 one inside IPv6 as itself; None: it is none."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def block_of(host: str) -> str:
    """What counts as one client: an IPv4 address, the /64 of an IPv6 one."""
    address = parsed(host)
    if address is None or ":" not in address:
        return address or host
    return str(IPv6Network((address, 64), strict=False).network_address)


def _address(text: str) -> str | None:
    """With or without a port."""
    text = text.strip(" \t")
    found = _V4_PORT.fullmatch(text) or _V6_PORT.fullmatch(text)
    return parsed(found[1] if found else text)


def _of_element(text: str) -> str | None:
    """The `for` of one element. Commas and quotes inside quotes are refused: with them a buyer
    could open a quote that swallows what the proxy appends."""
    found = None
    for part in text.split(";"):
        pair = _PAIR.fullmatch(part)
        if pair is None:
            return None
        if pair[1].lower() == "for":
            if found is not None:
                return None
            found = pair[2].strip('"')
    return None if found is None else _address(found)
