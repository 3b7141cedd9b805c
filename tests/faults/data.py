"""Data that are gone, or older than they should be."""

import asyncio
import random
from collections.abc import Awaitable
from typing import Any

import redis.asyncio as redis

from flashgrab import keys
from flashgrab.broker import TopicLog
from flashgrab.cli.stack.ports import free_port
from flashgrab.errors import BrokerUnavailable
from flashgrab.ledger import progress
from tests.faults.fault import Fault, serves
from tests.faults.processes import Freeze, Kill
from tests.faults.sale import Sale, until
from tests.faults.stack import PASSWORD, FaultStack, HeldValkey
from tests.services.proxy import Proxy, Trouble, proxied

SYNC_S = 20.0
BEHIND_MIN = 20
"""Facts that the replica misses before it is promoted."""


class BrokerWiped(Fault):
    """The broker acknowledges, dies, and comes back empty, before the workers have read all.

    `lost` counts the records that were acknowledged and in nobody's ledger.
    """

    def __init__(self, stack: FaultStack, sale: Sale) -> None:
        super().__init__(stack, "broker wiped after acknowledging")
        self._sale = sale
        self._frozen = [Freeze(stack, worker.name) for worker in stack.workers]
        self._kill = Kill(stack, "kafka")
        self.lost = 0

    async def inject(self) -> None:
        log = TopicLog(self.stack.bootstrap, keys.GRABS_TOPIC, deadline_ms=1000)
        try:
            for freeze in self._frozen:
                await freeze.inject()

            async def ahead() -> int:
                try:
                    ends = await log.end_offsets()
                except BrokerUnavailable:
                    return 0
                done = await progress.next_offsets(self._sale.pool, keys.GRABS_TOPIC)
                return sum(max(0, end - done.get(p, 0)) for p, end in ends.items())

            self.lost = await until("the broker is ahead of the ledger", ahead)
        finally:
            await log.stop()
            await self._kill.inject()
            for freeze in self._frozen:
                await freeze.heal()

    async def heal(self) -> None:
        await self._kill.heal()

    def reached(self) -> bool:
        return self.lost > 0 and self._kill.reached()


class DataDeleted(Fault):
    """FLUSHALL. Nothing heals it but a rebuild."""

    def __init__(self, stack: FaultStack, sale: Sale) -> None:
        super().__init__(stack, "redis data deleted")
        self._sale = sale
        self.seq = 0
        self._gone = False

    async def inject(self) -> None:
        self.seq = await self._sale.seq()
        async with redis.Redis.from_url(self.stack.valkey.url) as client:
            await client.flushall()
        self._gone = await self._sale.store.read(self._sale.campaign_id) is None

    def reached(self) -> bool:
        return self._gone and self.seq > 0


class StaleReplica(Fault):
    """A replica behind a one-way partition is promoted; all parts are led to it.

    `missed` counts the facts that it never got. Healing leads back to the real one.
    """

    def __init__(self, stack: FaultStack, sale: Sale) -> None:
        super().__init__(stack, "stale replica promoted")
        self._sale = sale
        self.missed = 0
        self.replica = HeldValkey(
            stack.folder / "replica",
            port=free_port(),
            log=stack.folder / "logs" / "replica.log",
            more={},
        )

    async def inject(self) -> None:
        main = self.stack.valkey
        self.replica.prepare()
        self.replica.start()
        await asyncio.to_thread(self.replica.wait_ready)
        port = int(main.address.rpartition(":")[2])
        async with (
            proxied(port, random.Random(0)) as link,
            redis.Redis.from_url(self.replica.url, decode_responses=True) as client,
        ):
            await client.config_set("masterauth", PASSWORD)
            await _follow(client, link)
            await until("the replica is in sync", lambda: _in_sync(client), SYNC_S)
            link.trouble = Trouble(stall="replies")

            async def behind() -> int:
                there = await client.hget(keys.campaign(self._sale.campaign_id), "seq")
                return max(0, await self._sale.seq() - int(there or 0) - BEHIND_MIN)

            await until("the replica is behind", behind)
            await client.replicaof("NO", "ONE")
            here = await self._sale.seq()
            self._lead(self.replica)
            there = await client.hget(keys.campaign(self._sale.campaign_id), "seq")
            self.missed = here - int(there or 0)

    async def heal(self) -> None:
        self._lead(self.stack.valkey)
        self.replica.kill()
        await serves(self.stack, "valkey")

    def reached(self) -> bool:
        return self.missed >= BEHIND_MIN

    def _lead(self, server: HeldValkey) -> None:
        for name, proxy in self.stack.links.items():
            if name.endswith(">valkey"):
                proxy.lead_to(int(server.address.rpartition(":")[2]))


async def _follow(client: Any, link: Proxy) -> None:
    await client.replicaof("127.0.0.1", link.port)


def _in_sync(client: Any) -> Awaitable[bool]:
    async def asked() -> bool:
        info = await client.info("replication")
        return bool(info.get("master_link_status") == "up")

    return asked()
