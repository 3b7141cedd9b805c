"""Wires for the batcher's constructor: one that holds its calls back, one that answers as told."""

import asyncio
from typing import Any

from flashgrab.scripts import Script
from flashgrab.wire import Wire

HEAD = 7
"""Arguments of grab.lua before the requests, three a request."""


class _Connected(Wire):
    """Says that it is connected; notes how many requests each call carried."""

    def __init__(self, run_id: str) -> None:
        self.connected = asyncio.Event()
        self.connected.set()
        self.calls: list[int] = []
        self.run_id = run_id

    def call(
        self, script: Script, keys: list[str], args: list[Any], timeout_ms: int
    ) -> "asyncio.Future[Any]":
        return asyncio.ensure_future(self.run(script, keys, args, timeout_ms))


class HeldWire(_Connected):
    """A real wire, its calls held back until `release` is set."""

    def __init__(self, wire: Wire, *, released: bool = False) -> None:
        super().__init__(wire.run_id)
        self._wire = wire
        self.release = asyncio.Event()
        if released:
            self.release.set()

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        self.calls.append((len(args) - HEAD) // 3)
        await self.release.wait()
        return await self._wire.run(script, keys, args, timeout_ms)


class ToldWire(_Connected):
    """Answers each call with the next of its replies, the last one for ever; raises exceptions."""

    def __init__(self, *replies: Any) -> None:
        super().__init__("run")
        self._replies = list(replies)

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        self.calls.append((len(args) - HEAD) // 3)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return reply


class SlowWire(HeldWire):
    """A real wire, each of its calls some milliseconds late, as on a slow disk."""

    def __init__(self, wire: Wire, slow_ms: int) -> None:
        super().__init__(wire, released=True)
        self._slow_ms = slow_ms
        self.at_once: list[int] = []
        self._now = 0

    async def run(self, script: Script, keys: list[str], args: list[Any], timeout_ms: int) -> Any:
        self._now += 1
        self.at_once.append(self._now)
        try:
            await asyncio.sleep(self._slow_ms / 1000)
            return await super().run(script, keys, args, timeout_ms)
        finally:
            self._now -= 1
