"""Answers every grab with the same bytes: what Locust reaches against it is Locust's own limit.

`python -m loadtests.idle_server` prints its port and ends when its stdin does.
"""

import asyncio
import sys
from typing import cast

BODY = b'{"grab_id":"idle-1","campaign_id":"idle","serial":1,"round":1,"state":"GRANTED"}'
ANSWER = (
    b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
    % (len(BODY), BODY)
)


class Idle(asyncio.Protocol):
    """One connection; a request is whatever ends a head."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(ANSWER)


async def serve() -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Idle, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
