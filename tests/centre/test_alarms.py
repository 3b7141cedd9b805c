"""Each failure that the centre sees, made on real servers: its alarm begins, is shown, and ends."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest
from structlog.testing import capture_logs

from centre.app import make_app
from centre.apply import Applier
from flashgrab import keys
from flashgrab.alarms import Alarm, Alarms
from flashgrab.ledger.operations import Change
from flashgrab.store import Store
from flashgrab.tasks import end
from flashgrab.telemetry import Metrics
from tests.centre.serving import Servers, Sides, settings, until
from tests.centre.test_apply import change
from tests.centre.test_returns import ask_for, on_sale
from tests.services import embedded

pytestmark = pytest.mark.anyio


def shown(alarms: Alarms) -> set[str]:
    """What is 1 on /metrics."""
    return {row[1][0] for row in alarms.rows() if row[0] == "flashgrab_alarm" and row[2]}


async def test_what_redis_can_not_take(sides: Sides) -> None:
    """A change that does not fit, a return and a change of a campaign that is gone: each is shown
    until it is in Redis, and said at its begin and its end."""
    alarms = Alarms()
    loop = Applier(sides.pool, sides.store, alarms=alarms)
    campaign_id = await on_sale(sides, "ann")
    redis, key = sides.store._redis, keys.campaign(campaign_id)
    round_ = keys.round_(campaign_id, 1)
    with capture_logs() as logs:
        before = await redis.hmget(round_, "quota", "left")
        await redis.hset(round_, mapping={"quota": 1000, "left": 0})
        await change(sides, campaign_id, Change("pause"))
        await loop.catch_up()
        assert shown(alarms) == {"apply-failed"}
        quota, left = map(str, before)
        await redis.hset(round_, mapping={"quota": quota, "left": left})
        await loop.catch_up()
        assert shown(alarms) == set()
        await redis.rename(key, "kept")
        await change(sides, campaign_id, Change("resume"))
        await ask_for(sides, campaign_id, 1)
        await loop.catch_up()
        assert shown(alarms) == {"redis-data-lost", "return-waits"}
        await redis.rename("kept", key)
        await loop.catch_up()
        assert shown(alarms) == set()
    for alarm in (Alarm.APPLY_FAILED, Alarm.REDIS_DATA_LOST, Alarm.RETURN_WAITS):
        said = [x for x in logs if x.get("alarm") == alarm.anchor]
        assert [x["event"] for x in said] == ["alarm_begins", "alarm_ends"]
        assert {(x["campaign"], x["runbook"]) for x in said} == {(campaign_id, alarm.runbook)}


async def test_redis_away(sides: Sides) -> None:
    """One alarm while it lasts, however often it is tried."""
    alarms = Alarms()
    with embedded.valkey(aof=True) as valkey:
        async with Store(valkey.url) as store:
            task = asyncio.create_task(Applier(sides.pool, store, pause_ms=10, alarms=alarms).run())
            try:
                valkey.kill()
                await until(lambda: shown(alarms) == {"redis-gone"})
                embedded.again(valkey)
                await until(lambda: shown(alarms) == set())
            finally:
                await end([task])


@pytest.fixture
async def read_only(bare_servers: Servers) -> AsyncIterator[Servers]:
    """An empty ledger that takes no writes."""
    connection = await asyncpg.connect(bare_servers.postgres_url)
    await connection.execute("CREATE DATABASE readonly")
    await connection.execute("ALTER DATABASE readonly SET default_transaction_read_only = on")
    url = bare_servers.postgres_url.rpartition("/")[0] + "/readonly"
    yield Servers(url, bare_servers.redis_url)
    await connection.execute("DROP DATABASE readonly WITH (FORCE)")
    await connection.close()


async def test_a_ledger_that_can_not_be_migrated(read_only: Servers) -> None:
    """Said with its traceback once, shown until it can."""
    metrics = Metrics()
    app = make_app(settings(read_only), metrics=metrics)
    with capture_logs() as logs:
        async with app.router.lifespan_context(app):
            await until(lambda: shown(metrics.alarms) == {"migration-failed"})
            connection = await asyncpg.connect(read_only.postgres_url)
            await connection.execute("SET default_transaction_read_only = off")
            await connection.execute("ALTER DATABASE readonly RESET default_transaction_read_only")
            await connection.close()
            await until(lambda: shown(metrics.alarms) == set())
    traced = [x for x in logs if x["event"] == "migration_failed"]
    assert [x["runbook"] for x in traced] == ["docs/runbook.md#migration-failed"]


async def test_a_ledger_that_is_away(servers: Servers) -> None:
    """From the centre's start on; the other alarms are shown at 0."""
    metrics = Metrics()
    nowhere = Servers("postgresql://nobody@127.0.0.1:1/none", servers.redis_url)
    app = make_app(settings(nowhere), metrics=metrics)
    async with app.router.lifespan_context(app):
        await until(lambda: shown(metrics.alarms) == {"postgres-gone"})
    named = {row[1][0] for row in metrics.alarms.rows()}
    assert named == {alarm.anchor for alarm in Alarm if "centre" in alarm.value.parts}
