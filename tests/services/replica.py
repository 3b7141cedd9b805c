"""A Valkey and a replica of it behind a proxy, which can delay and stall what passes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import redis.asyncio as redis

from tests.gateway.serving import until
from tests.lua.server import Valkey, valkey
from tests.services.proxy import CALM, Proxy, Trouble, proxied


@contextmanager
def primary() -> Iterator[Valkey]:
    """Durable as the real one; a replica that is there gets its first copy at once."""
    with valkey(
        *("--appendonly", "yes", "--appendfsync", "always", "--repl-diskless-sync-delay", "0"),
        tcp=True,
    ) as running:
        yield running


@dataclass
class Pair:
    """`link` is the way between the two."""

    primary: Valkey
    replica: Valkey
    link: Proxy

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """Nothing reaches the replica in this block; afterwards it gets what it missed."""
        self.link.trouble = Trouble(stall="replies")
        try:
            yield
        finally:
            self.link.trouble = CALM


@asynccontextmanager
async def replicated(of: Valkey) -> AsyncIterator[Pair]:
    """A replica that is in sync with this server, until the block ends."""
    async with proxied(of.port) as link:
        with valkey("--replicaof", "127.0.0.1", str(link.port), tcp=True) as running:
            async with redis.Redis.from_url(of.url) as client:

                async def answers() -> bool:  # "online" comes before it has loaded its copy
                    first = (await client.info("replication")).get("slave0", {})
                    return bool(first.get("state") == "online" and first["offset"] > 0)

                await until("the replica is in sync", answers, 20)
            yield Pair(of, running, link)
