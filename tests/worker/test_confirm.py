"""Opening campaigns again after Redis came back, and never on a server that knows too little."""

import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.state import GatewayReport
from tests.services import embedded
from tests.services.embedded import again
from tests.worker.line import Line, until
from worker.confirm import Confirmation

pytestmark = pytest.mark.anyio

RUN_REFUSED = 3
"""grab.lua's verdict where the campaign is not confirmed for this run."""


@pytest.fixture
def own_valkey() -> Iterator[Valkey]:
    """A Valkey that a test may kill, and whose files it may exchange."""
    with embedded.valkey(aof=True) as server:
        yield server


@pytest.fixture
async def own(line: Line, own_valkey: Valkey) -> AsyncIterator[Line]:
    """A stack with a Valkey of its own."""
    own = Line(own_valkey.url, line.bootstrap, line.postgres_url)
    yield own
    await own.close()


async def restart(line: Line, server: Valkey) -> str:
    """Kill and start; the new run_id."""
    server.kill()
    again(server)
    return str(await line.again(line.store.run_id))


async def report(line: Line, run: str, floor: int = 0, *, age_ms: int = 0, name: str = "g") -> None:
    at_ms = await line.store.now_ms() - age_ms
    await line.store.report_gateway(name, GatewayReport(run, at_ms, {"c1": floor}))


async def is_open(line: Line, campaign_id: str = "c1") -> bool:
    standing = (await line.store.standings([campaign_id]))[campaign_id]
    return standing.run == await line.store.run_id()


async def confirmed(line: Line, confirmation: Confirmation) -> None:
    async def there() -> bool:
        await confirmation.step()
        return await is_open(line)

    await until(there)


async def stays_closed(line: Line, confirmation: Confirmation, capsys: Any, why: str) -> None:
    """A few steps confirm nothing, and say why once."""
    for _ in range(4):
        await confirmation.step()
    assert not await is_open(line)
    assert capsys.readouterr().out.count(why) == 1


async def test_a_normal_restart_is_confirmed_within_two_seconds(
    own: Line, own_valkey: Valkey
) -> None:
    """Every part runs, a gateway reports at once: grants go on, and the books balance."""
    await own.publish("c1")
    await own.grant("c1", 30)
    await report(own, await own.store.run_id(), 30)
    async with own.running(own.relay(), own.persist(), own.walker()):
        await own.settled("c1", 30)
        await own.grant("c1", 5, start=30)
        run = await restart(own, own_valkey)
        began = time.monotonic()
        assert (await own.grab("c1", [("x", "", "k")]))[0] == RUN_REFUSED
        await report(own, run, 35)
        await until(lambda: is_open(own))
        assert time.monotonic() - began < 2
        await own.grant("c1", 5, start=40)
        await own.settled("c1", 40)
    await own.assert_exact("c1")
    assert (await own.audit()).ok


async def test_a_stale_copy_of_the_data_is_refused(own: Line, own_valkey: Valkey) -> None:
    """A server that knows less than the ledger stays closed, so nobody wins twice."""
    await own.publish("c1")
    await own.grant("c1", 20)
    await own.deliver("c1", 20)
    folder = Path(own_valkey._folder)
    own_valkey.stop()
    copy = folder.with_name("copy")
    shutil.copytree(folder / "appendonlydir", copy)
    again(own_valkey)
    run = await own.again(own.store.run_id)
    await own.again(lambda: own.store.confirm("c1", 1, 20, run))
    await own.grant("c1", 10, start=20)
    await own.deliver("c1", 30)
    own_valkey.kill()
    shutil.rmtree(folder / "appendonlydir")
    shutil.copytree(copy, folder / "appendonlydir")
    again(own_valkey)
    await own.again(own.store.run_id)
    confirmation = own.confirmation(grace_ms=0)
    for _ in range(3):
        await own.again(confirmation.step)
    assert not await is_open(own)
    assert (await own.store.read("c1")).seq == 20  # type: ignore[union-attr]
    assert (await own.grab("c1", [("x", "", "k")]))[0] == RUN_REFUSED
    report_ = await own.audit()
    assert not report_.ok


async def closed(line: Line, valkey_client: Any, seq: int = 20) -> None:
    """A campaign with `seq` facts in the outbox, as after a restart."""
    await line.publish("c1")
    await line.grant("c1", seq)
    valkey_client.hset(keys.campaign("c1"), "run", "another")


async def test_a_floor_above_its_seq_keeps_it_closed(
    line: Line, valkey_client: Any, capsys: Any
) -> None:
    """A gateway has seen a grant that this server does not know."""
    await closed(line, valkey_client)
    await line.send()
    run = await line.store.run_id()
    await report(line, run, 21)
    confirmation = line.confirmation(grace_ms=0)
    await stays_closed(line, confirmation, capsys, "knows less than was acknowledged")
    await report(line, run, 20)
    await confirmed(line, confirmation)


async def test_a_live_gateway_that_has_not_reported_is_waited_for(
    line: Line, valkey_client: Any, capsys: Any
) -> None:
    """Its floor may be above this server's seq; one without a report for 5 s is not live."""
    await closed(line, valkey_client)
    await line.send()
    await report(line, "another", 20)
    confirmation = line.confirmation(grace_ms=0)
    await stays_closed(line, confirmation, capsys, "no report of the new run from g")
    await report(line, "another", 99, age_ms=6000)
    await confirmed(line, confirmation)


async def test_what_kafka_has_must_be_in_the_ledger_first(
    line: Line, valkey_client: Any, capsys: Any
) -> None:
    """Records that no worker has read may know of more than this server."""
    await closed(line, valkey_client)
    async with line.running(line.relay()):
        await until(lambda: _relayed(line, 20))
    confirmation = line.confirmation(grace_ms=0)
    await stays_closed(line, confirmation, capsys, "does not yet hold what Kafka has")
    async with line.running(line.persist()):
        await confirmed(line, confirmation)
    await line.assert_exact("c1")


async def test_a_broker_that_loses_its_log_meanwhile_does_not_keep_it_closed(
    line: Line, valkey_client: Any, broker_server: Broker, capsys: Any
) -> None:
    """What the lost log had cannot be waited for; the new one's records are, as ever."""
    await closed(line, valkey_client)
    async with line.running(line.relay()):
        await until(lambda: _relayed(line, 20))
    confirmation = line.confirmation(grace_ms=0)
    await stays_closed(line, confirmation, capsys, "does not yet hold what Kafka has")
    broker_server.kill()
    again(broker_server)
    await line.send((b"only one", b"record"))
    async with line.running(line.persist()):
        await confirmed(line, confirmation)


async def test_a_fact_that_only_kafka_knows_keeps_it_closed(
    line: Line, valkey_client: Any, capsys: Any
) -> None:
    """A granted fact above the server's seq reaches the ledger, and closes the campaign."""
    await closed(line, valkey_client)
    async with line.running(line.relay(), line.persist()):
        await line.persisted("c1", 20)
        valkey_client.hset(keys.campaign("c1"), mapping={"seq": 15, "serial": 15})
        confirmation = line.confirmation(grace_ms=0)
        await until(lambda: _offsets_are_there(line))
        await stays_closed(line, confirmation, capsys, "knows less than was acknowledged")


async def test_without_kafka_it_stays_closed(
    line: Line, valkey_client: Any, broker_server: Broker, capsys: Any
) -> None:
    """Nobody can say what was acknowledged there."""
    await closed(line, valkey_client)
    broker_server.kill()
    await stays_closed(line, line.confirmation(grace_ms=0), capsys, "Kafka can't be asked")


@pytest.mark.parametrize(
    "entry,why", [("20-0", "no seqs 11-20"), ("10-0", "no seqs 1-10")], ids=["end", "begin"]
)
async def test_a_hole_in_the_outbox_keeps_it_closed(
    line: Line, valkey_client: Any, capsys: Any, entry: str, why: str
) -> None:
    """Every fact above the watermark must be there to be sent again."""
    await closed(line, valkey_client)
    await line.send()
    valkey_client.xdel(keys.outbox("c1"), entry)
    await stays_closed(line, line.confirmation(grace_ms=0), capsys, why)


async def test_a_torn_entry_keeps_it_closed(line: Line, valkey_client: Any, capsys: Any) -> None:
    """A fact that cannot be read cannot be sent."""
    await closed(line, valkey_client)
    await line.send()
    valkey_client.xadd(keys.outbox("c1"), {"x": "y"}, id="21-0")
    valkey_client.hset(keys.campaign("c1"), "seq", 21)
    await stays_closed(line, line.confirmation(grace_ms=0), capsys, "outbox entry 21 is torn")


async def test_another_epoch_or_an_unknown_campaign_stays_closed(
    line: Line, valkey_client: Any, capsys: Any
) -> None:
    """Only what the ledger knows, in its epoch, is opened."""
    await closed(line, valkey_client)
    await line.send()
    valkey_client.hset(keys.campaign("c1"), "epoch", 2)
    confirmation = line.confirmation(grace_ms=0)
    await stays_closed(line, confirmation, capsys, "another epoch")
    await line.sql("DELETE FROM rounds")
    await line.sql("DELETE FROM campaigns")
    await stays_closed(line, confirmation, capsys, "does not know it")


async def test_the_grace_is_kept(line: Line, valkey_client: Any) -> None:
    """Gateways get the time to connect again and report, counted from when the run was seen."""
    await closed(line, valkey_client)
    await line.send()
    confirmation = line.confirmation(grace_ms=300)
    began = time.monotonic()
    await confirmed(line, confirmation)
    assert time.monotonic() - began >= 0.3


async def _relayed(line: Line, count: int) -> bool:
    return line.metrics.values.get(("flashgrab_relayed_facts", ()), 0) >= count


async def _offsets_are_there(line: Line) -> bool:
    rows = await line.sql("SELECT sum(next_offset)::bigint AS n FROM offsets")
    return bool(rows[0]["n"] == 20)
