"""Kept connections to a gateway of several processes, each known by the process that has it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from tests.gateway.crowd import Got, Sent, read_answer, request_bytes
from tests.gateway.process import Running

CONNECTIONS_MAX = 400
LIVEZ = b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n"


class Pinned:
    """One connection; the process `pid` has accepted it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.port = int(writer.get_extra_info("sockname")[1])
        self.pid = 0

    async def ask(self, request: bytes) -> Got:
        """Raises OSError or IncompleteReadError where the process is gone."""
        self._writer.write(request)
        return await read_answer(self._reader)

    async def grab(self, campaign_id: str, token: str, key: str = "") -> Got:
        return await self.ask(request_bytes(Sent(campaign_id, token, key)))

    def close(self) -> None:
        self._writer.transport.abort()


class Pool:
    """Connections of one test, closed with it."""

    def __init__(self, gateway: Running) -> None:
        self._gateway = gateway
        self.all: list[Pinned] = []

    def of(self, pid: int) -> list[Pinned]:
        return [connection for connection in self.all if connection.pid == pid]

    async def open(self, count: int) -> list[Pinned]:
        """Each is answered once, so that a process has it."""
        port = int(self._gateway.url.rpartition(":")[2])
        opened = []
        for _ in range(count):
            opened.append(Pinned(*await asyncio.open_connection("127.0.0.1", port)))
            self.all.append(opened[-1])
        for answer in await asyncio.gather(*(c.ask(LIVEZ) for c in opened)):
            assert answer.status == 200
        owners = await asyncio.to_thread(owners_of, port, self._gateway.children)
        for connection in opened:
            connection.pid = owners[connection.port]
        return opened

    async def one_each(self) -> list[Pinned]:
        """A connection of every process."""
        pids = self._gateway.children
        while any(not self.of(pid) for pid in pids):
            assert len(self.all) < CONNECTIONS_MAX, "a process accepts nothing"
            await self.open(8)
        return [self.of(pid)[0] for pid in pids]


def owners_of(port: int, pids: list[int]) -> dict[int, int]:
    """The process of each connection to a port, by the client's port."""
    return {
        found.raddr.port: pid
        for pid in pids
        for found in psutil.Process(pid).net_connections("tcp")
        if found.status == psutil.CONN_ESTABLISHED and found.laddr.port == port
    }


@asynccontextmanager
async def pool(gateway: Running) -> AsyncIterator[Pool]:
    """Connections to a gateway until the block ends."""
    opened = Pool(gateway)
    try:
        yield opened
    finally:
        for connection in opened.all:
            connection.close()
