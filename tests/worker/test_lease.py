"""Several relays: one leads, another one takes over, and who slept through that does nothing."""

import asyncio
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.cli.stack.ports import free_port
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.telemetry import Metrics
from tests.services.embedded import again
from tests.services.frozen import freeze, thaw
from tests.worker.line import Line, until
from tests.worker.test_parts import END_S, part
from worker.relay import Relay
from worker.steps import Step

pytestmark = pytest.mark.anyio

TAKEN_OVER_S = 15
"""Bound for a busy machine; what is promised is 5 s (docs/faults.md has what was measured)."""


@dataclass
class RelayProcess:
    """One of two relays, and where it says whether it leads."""

    process: "Popen[bytes]"
    port: int

    def figure(self, name: str) -> float:
        """Of its /metrics; -1 where it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as page:
                found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.MULTILINE)
        except OSError:
            return -1
        return float(found[1]) if found else -1

    async def leads(self) -> bool:
        return await asyncio.to_thread(self.figure, "flashgrab_relay_leads") == 1

    async def waits(self) -> bool:
        return await asyncio.to_thread(self.figure, "flashgrab_relay_leads") == 0


@contextmanager
def relays(line: Line, folder: Path, count: int = 2) -> Iterator[list[RelayProcess]]:
    with ExitStack() as running:
        made = []
        for number in range(count):
            port, log = free_port(), folder / f"relay-{number}.log"
            started = part(line, "relay", log, FLASHGRAB_METRICS_PORT=str(port))
            made.append(RelayProcess(running.enter_context(started), port))
        yield made


async def in_order(both: list[RelayProcess]) -> tuple[RelayProcess, RelayProcess]:
    """The one that leads, and the one that waits."""

    async def settled() -> tuple[RelayProcess, RelayProcess] | None:
        first, second = both
        if await first.leads() and await second.waits():
            return first, second
        if await second.leads() and await first.waits():
            return second, first
        return None

    found: tuple[RelayProcess, RelayProcess] = await until(settled, END_S)
    return found


async def test_the_other_one_goes_on_when_the_leader_is_killed(line: Line, tmp_path: Path) -> None:
    """The standby leads, and the ledger has every fact once."""
    await line.publish("c1", 500)
    await line.grant("c1", 50)
    with relays(line, tmp_path) as both:
        leader, standby = await in_order(both)
        async with line.running(line.persist()):
            await line.persisted("c1", 50)
            leader.process.kill()
            await until(standby.leads, TAKEN_OVER_S)
            await line.grant("c1", 50, start=50)
            await line.persisted("c1", 100)
    await line.assert_exact("c1")


async def test_a_frozen_leader_that_wakes_does_nothing(line: Line, tmp_path: Path) -> None:
    """It stood still for longer than the lease: another one leads, and what is granted after it
    woke is that one's alone."""
    await line.publish("c1", 500)
    await line.grant("c1", 50)
    with relays(line, tmp_path) as both:
        leader, standby = await in_order(both)
        async with line.running(line.persist()):
            await line.persisted("c1", 50)
            freeze(leader.process.pid)
            try:
                await line.grant("c1", 50, start=50)
                await until(standby.leads, TAKEN_OVER_S)
                await line.persisted("c1", 100)
            finally:
                thaw(leader.process.pid)
            assert await until(leader.waits, END_S)
            before = leader.figure("flashgrab_relayed_facts_total")
            await line.grant("c1", 50, start=100)
            await line.persisted("c1", 150)
            assert leader.figure("flashgrab_relayed_facts_total") == before
            assert await standby.leads()
    await line.assert_exact("c1")


def alone(line: Line, **more: Any) -> tuple[Relay, Metrics]:
    """A relay with figures of its own."""
    metrics = Metrics()
    return Relay(line.store, line.bootstrap, line.clock, metrics, poll_ms=100, **more), metrics


def relayed(metrics: Metrics) -> float:
    return metrics.values.get(("flashgrab_relayed_facts", ()), 0)


def steal(client: Any) -> None:
    """Another relay leads from now on."""
    seconds, _ = client.time()
    row = {"holder": "another", "until_ms": (seconds + 2) * 1000}
    client.hset(keys.RELAY, mapping={**row, "epoch": int(client.hget(keys.RELAY, "epoch")) + 1})


@pytest.mark.parametrize("fenced", [True, False])
@pytest.mark.parametrize("step", ["read", "published"])
async def test_a_lease_that_is_lost_in_a_batch(
    line: Line, valkey_client: Any, step: Step, fenced: bool
) -> None:
    """What was read is not published, and what was acknowledged moves no cursor that lasts: once it
    leads again it starts at the first entry. Without a look at the lease it goes on meanwhile."""
    await line.publish("c1", 500)
    await line.grant("c1", 50)
    lost = asyncio.Event()
    seen: list[float] = []

    async def hook(here: Step) -> None:
        if here == step and not lost.is_set():
            lost.set()
            steal(valkey_client)
            if fenced:
                await until(_is(lambda: not relay.lease.leads()))
            seen.append(relayed(metrics))

    relay, metrics = alone(line, hook=hook)
    async with line.running(relay):
        if not fenced:
            await until(_is(relay.lease.leads))
            relay.lease.leads = lambda: True  # type: ignore[method-assign]
        await asyncio.wait_for(lost.wait(), END_S)
        # with the fence what was sent before the loss is sent anew, and nothing else is sent twice
        sent = 100 if fenced and step == "published" else 50
        await until(_is(lambda: relayed(metrics) == sent))
        assert (valkey_client.hget(keys.RELAY, "holder") == "another") is not fenced
        async with line.running(line.persist()):
            await line.persisted("c1", 50)
    assert seen == [0]
    await line.assert_exact("c1")


async def test_a_stop_lets_the_other_one_lead_at_once(line: Line) -> None:
    """With a lease of an hour: the standby does not wait for its end."""
    await line.publish("c1", 500)
    first, _ = alone(line, lease_ms=3_600_000)
    second, metrics = alone(line, lease_ms=3_600_000)
    async with line.running(second):
        async with line.running(first):
            await until(_is(lambda: first.lease.leads() or second.lease.leads()))
            leader, other = (first, second) if first.lease.leads() else (second, first)
            await asyncio.sleep(0)
            assert not other.lease.leads()
        if leader is first:
            await until(_is(second.lease.leads))
            await line.grant("c1", 20)
            await until(_is(lambda: relayed(metrics) == 20))


async def test_redis_may_restart_under_both(line: Line, valkey_server: Valkey) -> None:
    """One of them leads again, and every fact arrives once."""
    await line.publish("c1", 500)
    await line.grant("c1", 50)
    (first, _), (second, _) = alone(line), alone(line)
    async with line.running(first, second, line.persist()):
        await line.persisted("c1", 50)
        valkey_server.kill()
        again(valkey_server)
        await line.confirmed("c1", 50)
        await line.grant("c1", 50, start=50)
        await line.persisted("c1", 100)
        assert [first.lease.leads(), second.lease.leads()].count(True) == 1
    await line.assert_exact("c1")


async def test_a_redis_that_takes_no_writes_stops_no_leader(line: Line, valkey_client: Any) -> None:
    """Nobody else can take the lease either, and reading goes on: facts reach the ledger."""
    await line.publish("c1", 500)
    relay, metrics = alone(line, lease_ms=600)
    async with line.running(relay):
        await until(_is(relay.lease.leads))
        await line.grant("c1", 30)
        valkey_client.config_set("min-replicas-to-write", 1)
        try:
            await asyncio.sleep(1.2)  # twice the lease
            assert relay.lease.leads()
        finally:
            valkey_client.config_set("min-replicas-to-write", 0)
        await until(_is(lambda: relayed(metrics) == 30))


def _is(true: Any) -> Any:
    async def ask() -> bool:
        return bool(true())

    return ask
