"""A gateway on a real port that answers what a test says: status and body, or nothing at all."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from flashgrab.cli.rehearsal.connection import Address

Scripted = tuple[int, dict[str, Any]] | None
"""Status and JSON body; None closes the connection without an answer."""


class Gateway:
    """`answer` is called with the whole head of every request."""

    def __init__(self, answer: Callable[[str], Scripted]) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.answer = answer
        self.address = Address("127.0.0.1", 0, secure=False)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client or the script ends it."""
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                await reader.readexactly(int(header(head, "Content-Length") or 0))
                self.heads.append(head)
                scripted = self.answer(head)
                if scripted is None:
                    return
                status, body = scripted
                text = json.dumps(body).encode()
                writer.write(
                    f"HTTP/1.1 {status} X\r\ncontent-length: {len(text)}\r\n\r\n".encode() + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()


@asynccontextmanager
async def scripted(answer: Callable[[str], Scripted]) -> AsyncIterator[Gateway]:
    """Serves until the block ends."""
    gateway = Gateway(answer)
    server = await asyncio.start_server(gateway.serve, "127.0.0.1", 0)
    gateway.address = Address("127.0.0.1", server.sockets[0].getsockname()[1], secure=False)
    try:
        yield gateway
    finally:
        server.close()
        await asyncio.sleep(0)


def header(head: str, name: str) -> str:
    """The value of a header, "" where it is missing."""
    lines = (line.partition(": ") for line in head.split("\r\n"))
    return next((value for key, _, value in lines if key == name), "")


def key_of(head: str) -> str:
    """The Idempotency-Key of a request."""
    return header(head, "Idempotency-Key")
