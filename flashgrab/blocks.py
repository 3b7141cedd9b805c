"""The blocklist: users, devices and networks that get no pass and no grab."""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from flashgrab.ids import is_device_id, is_user_id

Kind = Literal["user", "device", "address"]
KINDS: tuple[Kind, ...] = get_args(Kind)

BLOCKS_MAX = 20_000
"""Of all kinds together: every gateway reads them all after each change."""
WHY_MAX = 200
BY_MAX = 64
PREFIX_MIN = {4: 8, 6: 16}
"""The largest network that can be blocked; a larger one is a slip of the pen."""
FOR_EVER = 0
"""What stands in Redis for a block without an end."""
_NEVER_MS = 2**62


@dataclass(frozen=True, slots=True)
class Block:
    """One entry: who, why, by whom, until when (None: for ever)."""

    kind: Kind
    subject: str
    why: str
    by: str
    until_ms: int | None
    at_ms: int

    @property
    def name(self) -> str:
        """As the hash in Redis has it."""
        return f"{self.kind}:{self.subject}"


def subject_of(kind: Kind, text: str) -> str:
    """The subject in its one form. Raises ValueError saying what was expected."""
    if kind != "address":
        if not (is_user_id if kind == "user" else is_device_id)(text):
            raise ValueError(f"a {kind} id is 1 to 64 characters of A-Z a-z 0-9 . _ ~ @ -")
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            "expected an address or a network with its own first address, as 198.51.100.0/24"
            " or 2001:db8::/48"
        ) from None
    if network.prefixlen < PREFIX_MIN[network.version]:
        raise ValueError(f"a network of at least /{PREFIX_MIN[network.version]}")
    return str(network)


class Blocklist:
    """All entries, for look-ups: a dictionary a kind, and one a length of prefix."""

    def __init__(self, entries: Mapping[str, int]) -> None:
        """`kind:subject` → until when, as Redis has them; what nobody understands stops nobody."""
        self._people: dict[str, dict[bytes, int]] = {"user": {}, "device": {}}
        self._networks: dict[tuple[int, int], dict[int, int]] = {}
        for name, until_ms in entries.items():
            kind, _, subject = name.partition(":")
            if kind in self._people:
                self._people[kind][subject.encode()] = until_ms or _NEVER_MS
            elif kind == "address":
                self._add_network(subject, until_ms or _NEVER_MS)
        self._users, self._devices = self._people["user"], self._people["device"]

    def _add_network(self, subject: str, until_ms: int) -> None:
        try:
            network = ipaddress.ip_network(subject)
        except ValueError:
            return
        shift = network.max_prefixlen - network.prefixlen
        of_length = self._networks.setdefault((network.version, shift), {})
        of_length[int(network.network_address) >> shift] = until_ms

    @property
    def has_people(self) -> bool:
        """Whether a pass can be stopped at the grab."""
        return bool(self._users or self._devices)

    def stops(self, user: bytes, device: bytes, now_ms: int) -> bool:
        """Whether this user, or this device, is blocked now."""
        return self._users.get(user, 0) > now_ms or self._devices.get(device, 0) > now_ms

    def stops_address(self, text: str, now_ms: int) -> bool:
        """Whether an address is in a blocked network."""
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address):
            address = address.ipv4_mapped or address
        number = int(address)
        return any(
            networks.get(number >> shift, 0) > now_ms
            for (version, shift), networks in self._networks.items()
            if version == address.version
        )


NOBODY = Blocklist({})
