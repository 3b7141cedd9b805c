"""The primary dies for good, and its replica takes its place."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import redis.asyncio as redis

from flashgrab.cli.stack.ports import free_port
from flashgrab.store import Store
from tests.faults.fault import Fault
from tests.faults.processes import Kill
from tests.faults.sale import Sale, until
from tests.faults.stack import PASSWORD, FaultStack, HeldValkey
from tests.services.proxy import Proxy, Trouble, proxied

SYNC_S = 20.0
STALLED_S = 1.5


@dataclass
class Replicas:
    """`heir` follows the primary over a link that can be stalled; `second` follows the heir, so
    that the heir has a replica of its own as soon as it is promoted."""

    heir: HeldValkey
    second: HeldValkey
    link: Proxy


@asynccontextmanager
async def replicas(stack: FaultStack) -> AsyncIterator[Replicas]:
    """In sync with the stack's Valkey; they end with the block."""
    main = _port(stack.valkey)
    async with proxied(main, random.Random(0)) as link:
        heir = _following(stack, "heir", link.port)
        second = _following(stack, "second", _port(heir))
        try:
            for server in (heir, second):
                await _started(server)
            yield Replicas(heir, second, link)
        finally:
            heir.kill()
            second.kill()


class Failover(Fault):
    """kill -9 of the primary, which stays away; the heir is promoted and all are led to it. With
    `stalled`, nothing has reached the heir for a while. `missed` counts the facts that it lacks."""

    def __init__(
        self, stack: FaultStack, to: Replicas, sales: list[Sale], *, stalled: bool
    ) -> None:
        super().__init__(stack, "failover" + (" behind a stalled link" if stalled else ""))
        self._to = to
        self._sales = sales
        self._stalled = stalled
        self._kill = Kill(stack, "valkey", away=True)
        self.missed: list[int] = []

    async def inject(self) -> None:
        if self._stalled:
            self._to.link.trouble = Trouble(stall="replies")
            await asyncio.sleep(STALLED_S)
        before = [await sale.seq() for sale in self._sales]
        await self._kill.inject()
        async with redis.Redis.from_url(self._to.heir.url) as client:
            if not self._stalled:

                async def has_all() -> bool:
                    link = (await client.info("replication"))["master_link_status"]
                    return bool(link == "down")

                await until("the heir has read all that the primary sent", has_all)
            await client.replicaof("NO", "ONE")
        for name, proxy in self.stack.links.items():
            if name.endswith(">valkey"):
                proxy.lead_to(_port(self._to.heir))
        for sale, seq in zip(self._sales, before, strict=True):
            await sale.store.close()
            sale.store = Store(self._to.heir.url)
            self.missed.append(max(0, seq - await sale.seq()))

    def reached(self) -> bool:
        return self._kill.reached() and (not self._stalled or max(self.missed) > 0)


def _following(stack: FaultStack, name: str, port: int) -> HeldValkey:
    more = {
        "replicaof": f"127.0.0.1 {port}",
        "masterauth": PASSWORD,
        "repl-diskless-sync-delay": "0",
    }
    log = stack.folder / "logs" / f"{name}.log"
    return HeldValkey(stack.folder / name, port=free_port(), log=log, more=more)


def _port(server: HeldValkey) -> int:
    return int(server.address.rpartition(":")[2])


async def _started(server: HeldValkey) -> None:
    server.prepare()
    server.start()
    await asyncio.to_thread(server.wait_ready)
    async with redis.Redis.from_url(server.url) as client:

        async def in_sync() -> bool:
            return bool((await client.info("replication")).get("master_link_status") == "up")

        await until(f"{server.name} is in sync", in_sync, SYNC_S)
