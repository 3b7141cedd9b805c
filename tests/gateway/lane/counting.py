"""How many commands a Redis has run, and asking a gateway many times from one connection."""

import asyncio
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import cast

from tests.gateway.crowd import Got, Sent, crowd
from tests.gateway.serving import Served, until
from tests.lua.server import Client

CONNECTIONS = 8
BACKGROUND_SHARE = 0.2
"""Commands for each request that a gateway may run meanwhile by itself, whatever it is asked:
readings of the campaigns, the time, its report."""


class Counted:
    """Counts commands of all clients since the last look; those inside scripts, too."""

    def __init__(self, redis: Client) -> None:
        self._redis = redis
        self._before = self._calls()

    def _calls(self) -> Counter[str]:
        found = re.findall(r"cmdstat_(\S+?):calls=(\d+)", self._redis.call("INFO", "commandstats"))
        return Counter({name: int(calls) for name, calls in found})

    def since(self) -> tuple[int, int]:
        """Script calls, and all commands."""
        now = self._calls()
        spent = now - self._before
        self._before = now
        return spent["evalsha"], sum(spent.values())


def codes(answers: Sequence[Got]) -> Counter[str]:
    """How often each code (of a refusal) or status was answered."""
    return Counter(a.body.get("code", str(a.status)) for a in answers)


class _Asking(asyncio.Protocol):
    """Sends the next request when the answer to the last is there; keeps the status lines."""

    def __init__(self, requests: Iterator[bytes], statuses: Counter[bytes]) -> None:
        self._requests = requests
        self._statuses = statuses
        self._answer = b""
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        if self._answer.endswith(b"}"):
            self._statuses[self._answer[9:12]] += 1
            self._answer = b""
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
        else:
            self._transport.write(request)


async def ask(port: int, requests: Sequence[bytes]) -> Counter[bytes]:
    """Refusals that are only counted, by status: a tenth of what `crowd` costs."""
    statuses: Counter[bytes] = Counter()
    loop, left = asyncio.get_running_loop(), iter(requests)
    for_all = []
    for _ in range(CONNECTIONS):
        make = lambda: _Asking(left, statuses)  # noqa: E731 - a factory for the loop
        _, client = await loop.create_connection(make, "127.0.0.1", port)
        for_all.append(client.done)
    await asyncio.gather(*for_all)
    return statuses


def strangers(served: Served, campaign_id: str, prefix: str, count: int) -> list[Sent]:
    """Requests of users who never asked before."""
    users = (f"{prefix}-{n}" for n in range(count))
    return [Sent(campaign_id, served.token(campaign_id, user), "k") for user in users]


async def steady(served: Served, counted: Counted, campaign_id: str, code: str) -> None:
    """Wait until strangers are refused with this code without a script call."""
    turn = 0

    async def quiet() -> bool:
        nonlocal turn
        turn += 1
        requests = strangers(served, campaign_id, f"early-{turn}", 5)
        counted.since()
        assert set(codes(await crowd(served.port, requests, 1))) == {code}
        return counted.since()[0] == 0

    await until("refusals cost no script call", quiet, 10)
