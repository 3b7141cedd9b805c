"""The forms that values of settings must have, as far as several share them."""

import ipaddress
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from flashgrab.segments import SegmentKey


def listed(value: Any) -> Any:
    """Text with commas as a tuple."""
    if not isinstance(value, str):
        return value
    return tuple(one.strip() for one in value.split(",") if one.strip())


def has_otel() -> bool:
    """Whether the extra `otel` is installed."""
    try:
        return find_spec("opentelemetry.exporter.otlp.proto.http.trace_exporter") is not None
    except ModuleNotFoundError:
        return False


def checked_redis_url(value: str) -> str:
    """Raises ValueError, without the value: it may hold a password."""
    expected = "expected redis://[:password@]host:port[/db]"
    try:
        url = urlsplit(value)
        where = url.path if url.scheme == "unix" else url.hostname
        known = url.scheme in ("redis", "rediss", "unix") and url.port != 0
    except ValueError:  # a port that is none; its message would quote the address
        raise ValueError(expected) from None
    if not known or not where:
        raise ValueError(expected)
    return value


def checked_segment_key(value: str) -> str:
    """Raises ValueError."""
    if value:
        SegmentKey.parse(value)
    return value


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
