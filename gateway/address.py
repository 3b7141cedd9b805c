"""Where a request comes from: one place for all that is counted by address."""

from typing import Any


def host_of(client: Any) -> str:
    """The host of a connection's or a request's `client` (host, port); "" where it has none, as on
    a unix socket. uvicorn sets it to the peer of the connection."""
    return client[0] if client else ""
