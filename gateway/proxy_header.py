"""The PROXY protocol, version 2: what a load balancer of the transport layer says first. Pure."""

from ipaddress import ip_address

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADER_BYTES_MAX = 4096
_FIXED = 16
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESS_BYTES = {0x11: 4, 0x21: 16}  # TCP over IPv4 and IPv6; of others the peer's own stands

Source = tuple[str, int]


class NotProxied(Exception):
    """These bytes begin no such header."""


def read_header(data: bytes) -> tuple[Source | None, bytes] | None:
    """The source (None: the peer itself) and what follows; None: more bytes are needed. Raises
    NotProxied. Additional fields (TLVs) are skipped."""
    if data[: len(SIGNATURE)] != SIGNATURE[: len(data)]:
        raise NotProxied
    if len(data) < _FIXED:
        return None
    command, family = data[12], data[13]
    end = _FIXED + int.from_bytes(data[14:16], "big")
    if command not in (_LOCAL, _PROXY) or end > HEADER_BYTES_MAX:
        raise NotProxied
    if len(data) < end:
        return None
    size = _ADDRESS_BYTES.get(family)
    if command == _LOCAL or size is None:
        return None, data[end:]
    if end < _FIXED + 2 * size + 4:
        raise NotProxied
    host = ip_address(data[_FIXED : _FIXED + size])
    port_at = _FIXED + 2 * size
    port = int.from_bytes(data[port_at : port_at + 2], "big")
    return (str(host), port), data[end:]
