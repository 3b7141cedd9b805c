"""A stand-in of a captcha's provider: an HTTP server of this machine that vouches for one token."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

SECRET = "captcha-secret"
GOOD = "good-token"


class Provider:
    """Answers as providers do; `raw` replaces that, `stall` makes it say nothing."""

    def __init__(self) -> None:
        self.asked: list[dict[str, list[str]]] = []
        self.raw: bytes | None = None
        self.stall = False
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length:")
            )
            fields = parse_qs((await reader.readexactly(length)).decode())
            self.asked.append(fields)
            if self.stall:
                await reader.read()  # until the other side gives up
                return
            good = fields == {"secret": [SECRET], "response": [GOOD]}
            body = b'{"success":%s}' % (b"true" if good else b"false")
            plain = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            writer.write(plain % (len(body), body) if self.raw is None else self.raw)
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def provider() -> AsyncIterator[Provider]:
    """Until the block ends."""
    made = Provider()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/siteverify"
    try:
        yield made
    finally:
        server.close()
