"""Locust's own ceiling on this machine: the same kind of user against a server that does nothing.

As a Locust file it is the user; run as a program (`python -m loadtests.ceiling`) it is the server,
which prints its port and ends with its stdin.
"""

import asyncio
import sys

ANSWER = (
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 68\r\n\r\n"
    b'{"grab_id":"ceiling-1","serial":1,"round":1,"state":"GRANTED","x":1}'
)


class Server(asyncio.Protocol):
    """Answers every piece of bytes that ends a head with the same grant."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if data.endswith(b"\r\n\r\n"):
            self._transport.write(ANSWER)


async def serve() -> None:
    """Until stdin ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Server, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(serve())
else:
    from locust import FastHttpUser, task

    class Nothing(FastHttpUser):
        """Sends grabs as fast as Locust can."""

        @task
        def grab(self) -> None:
            headers = {"Authorization": "Bearer " + "x" * 90, "Idempotency-Key": "k"}
            self.client.request("POST", "/v1/campaigns/x/grabs", name="grab", headers=headers)
