"""Many requests at once over raw sockets, by a client that costs little."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """A grab to send: campaign, pass, Idempotency-Key ("" for none)."""

    campaign_id: str
    token: str
    key: str = ""


class Got(NamedTuple):
    """What came back."""

    status: int
    body: Any


def request_bytes(sent: Sent) -> bytes:
    """The request as it goes over the wire."""
    key = f"Idempotency-Key: {sent.key}\r\n" if sent.key else ""
    return (
        f"POST /v1/campaigns/{sent.campaign_id}/grabs HTTP/1.1\r\nHost: test\r\n"
        f"Authorization: Bearer {sent.token}\r\n{key}Content-Length: 0\r\n\r\n"
    ).encode()


async def read_answer(reader: asyncio.StreamReader) -> Got:
    """One answer with a Content-Length."""
    head = await reader.readuntil(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return Got(int(lines[0].split()[1]), json.loads(body))


async def crowd(port: int, requests: Sequence[Sent], connections: int) -> list[Got]:
    """Send all, neighbours on different connections; answers in the order of the requests."""
    answers: list[Got | None] = [None] * len(requests)

    async def one(first: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            for index in range(first, len(requests), connections):
                writer.write(request_bytes(requests[index]))
                answers[index] = await read_answer(reader)
        finally:
            writer.close()
            await writer.wait_closed()

    await asyncio.gather(*(one(n) for n in range(min(connections, len(requests)))))
    return [answer for answer in answers if answer is not None]
