"""The lane behind proxies: each request has its own buyer, and is plain all the same."""

import asyncio
from typing import Any

from gateway.lane import Lane


class Proxied(Lane):
    """One connection of a listed proxy, or a buyer's own. Used only where proxies are listed."""

    __slots__ = ("_by_proxy", "_head", "_proxies")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._proxies = self._doors.proxies
        self._by_proxy = False
        self._head = b""  # of the last request that the lane looked at; empty: the parser has it

    @property
    def address(self) -> str:
        peer = super().address
        if not self._by_proxy:
            return peer
        if self._head:
            return self._proxies.of_head(peer, self._head)
        return self._proxies.of_fields(peer, self.headers)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._by_proxy = self._proxies.trusts(super().address)  # "" of one that is turned away

    def _alike(self, data: bytes) -> bool:
        if not self._by_proxy:
            return super()._alike(data)
        self._head = data
        return super()._alike(self._proxies.without(data))

    def _take(self, data: bytes) -> bool:
        if not self._by_proxy:
            return super()._take(data)
        taken = super()._take(self._proxies.without(data))
        if not taken:
            self._head = b""
        return taken

    def on_headers_complete(self) -> None:
        if self._by_proxy:
            self._head = b""
            self.scope["client"] = (self.address, 0)
        super().on_headers_complete()
