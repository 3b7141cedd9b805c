"""Every kind of damage, planted by hand: the audit names it, complete and beside the sale."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from flashgrab import keys
from flashgrab.broker import TopicLog
from tests.worker.line import Line, until
from worker.audit import Audit
from worker.damage import INVARIANTS, Damage
from worker.live_audit import LiveAudit

pytestmark = pytest.mark.anyio

Plant = Callable[[Line, Any], Awaitable[None]]
PERSISTED, WAITING = 60, 20


@dataclass(frozen=True)
class Case:
    """One damage: how it is planted, what names it, what turns red."""

    plant: Plant
    damage: Damage
    subject: str
    red: tuple[str, ...]
    live: bool = True


def sql(query: str) -> Plant:
    async def plant(line: Line, _client: Any) -> None:
        await line.sql(query)

    return plant


def row(serial: int, seq: int, user: str = "x", request: str = "kx", device: str = "") -> str:
    return (
        "INSERT INTO coupons (campaign_id, serial, seq, user_id, device_id, round, request_id,"
        f" epoch, granted_at) VALUES ('c1', {serial}, {seq}, '{user}', '{device}', 1, '{request}',"
        " 1, 1); UPDATE rounds SET granted = granted + 1"
    )


def many(queries: str) -> Plant:
    async def plant(line: Line, _client: Any) -> None:
        for query in queries.split(";"):
            await line.sql(query)

    return plant


def redis(change: Callable[[Any], Any]) -> Plant:
    async def plant(_line: Line, client: Any) -> None:
        change(client)

    return plant


async def left_and_granted(_line: Line, client: Any) -> None:
    client.hincrby(keys.round_("c1", 1), "left", 1)
    client.hincrby(keys.round_("c1", 1), "granted", -1)


async def fact_twice(line: Line, client: Any) -> None:
    """The same user and request granted once more, with an entry of its own."""
    text = "g,81,1,u5,,k5"
    fields = {"first": 81, "epoch": 1, "at_ms": 1, "facts": text}
    client.xadd(keys.outbox("c1"), fields, id="81-0")
    client.hset(keys.campaign("c1"), mapping={"seq": 81, "serial": 81})
    client.hincrby(keys.round_("c1", 1), "left", -1)
    client.hincrby(keys.round_("c1", 1), "granted", 1)
    entry = client.hget(keys.holders("c1"), "u5")
    client.hset(keys.holders("c1"), "u5", f"{entry}81,81,1,g,k5;")


MISSING = "DELETE FROM coupons WHERE serial = 17"
DEAD = (
    "INSERT INTO dead (digest, campaign_id, seq, reason, detail, key, value, at_ms)"
    " VALUES ('a', {}, 3, 'CONFLICT', '', '', '', 1)"
)

CASES: dict[str, Case] = {
    "missing row": Case(sql(MISSING), Damage.MISSING_ROW, "seqs 17-17", ("I5",)),
    "missing row, counted": Case(
        many(f"{MISSING}; UPDATE rounds SET granted = granted - 1"),
        Damage.MISSING_ROW,
        "serial 17",
        ("I5",),
        live=False,
    ),
    "extra row beyond": Case(many(row(900, 900)), Damage.EXTRA_ROW, "serial 900", ("I5",)),
    "extra row with a serial beyond": Case(
        many(row(900, 17)), Damage.EXTRA_ROW, "serial 900", ("I5",)
    ),
    "extra row above the watermark": Case(
        many(row(85, 70)), Damage.EXTRA_ROW, "serial 85", ("I5",)
    ),
    "wrong user": Case(
        sql("UPDATE coupons SET user_id = 'thief' WHERE serial = 17"),
        Damage.WRONG_USER,
        "serial 17",
        ("I5",),
        live=False,
    ),
    "wrong user above the watermark": Case(
        many(row(70, 70, "thief", "k69")), Damage.WRONG_USER, "serial 70", ("I5",)
    ),
    "row differs": Case(
        sql("UPDATE coupons SET request_id = 'other' WHERE serial = 17"),
        Damage.ROW_DIFFERS,
        "serial 17",
        ("I5",),
        live=False,
    ),
    "gap": Case(
        redis(lambda client: client.xdel(keys.outbox("c1"), "70-0")),
        Damage.GAP,
        "seqs 61-70",
        ("I4",),
    ),
    "gap at the end": Case(
        redis(lambda client: client.xdel(keys.outbox("c1"), "80-0")),
        Damage.GAP,
        "seqs 71-80",
        ("I4",),
    ),
    "double": Case(
        many("UPDATE coupons SET seq = 18 WHERE serial = 17"),
        Damage.DOUBLE,
        "seq 18",
        ("I5",),
    ),
    "left off by one": Case(
        redis(lambda client: client.hincrby(keys.round_("c1", 1), "left", 1)),
        Damage.LEFT_OFF,
        "round 1",
        ("I6",),
    ),
    "counters off": Case(left_and_granted, Damage.COUNTER_OFF, "round 1", ("I6",)),
    "user over the limit": Case(
        sql("UPDATE coupons SET user_id = 'u30' WHERE serial = 17"),
        Damage.USER_LIMIT,
        "user u30",
        ("I2", "I5"),
    ),
    "device over the limit": Case(
        sql("UPDATE coupons SET device_id = 'd0' WHERE serial IN (17, 18)"),
        Damage.DEVICE_LIMIT,
        "device d0",
        ("I2",),
    ),
    "one request granted twice": Case(fact_twice, Damage.DOUBLE_REQUEST, "user u5", ("I2", "I3")),
    "over quota": Case(sql("UPDATE rounds SET quota = 79"), Damage.OVER_QUOTA, "round 1", ("I1",)),
    "quota differs": Case(
        sql("UPDATE rounds SET quota = 101"), Damage.QUOTA_DIFFERS, "round 1", ("I1",)
    ),
    "rows miscounted": Case(
        sql("UPDATE rounds SET granted = granted + 1"),
        Damage.ROWS_MISCOUNTED,
        "round 1",
        ("I5",),
    ),
    "dead letter": Case(
        sql(DEAD.format("'c1'")), Damage.DEAD_LETTER, "1 in the dead table", ("I5",)
    ),
    "torn entry": Case(
        redis(
            lambda client: (
                client.xadd(keys.outbox("c1"), {"x": "y"}, id="81-0"),
                client.hset(keys.campaign("c1"), "seq", 81),
            )
        ),
        Damage.TORN_ENTRY,
        "entry 81",
        ("I4",),
    ),
    "holder forgotten": Case(
        redis(lambda client: client.hdel(keys.holders("c1"), "u16")),
        Damage.NOT_A_HOLDER,
        "serial 17",
        ("I3",),
        live=False,
    ),
    "waiting holder forgotten": Case(
        redis(lambda client: client.hdel(keys.holders("c1"), "u70")),
        Damage.NOT_A_HOLDER,
        "serial 71",
        ("I3",),
        live=False,
    ),
    "holder torn": Case(
        redis(lambda client: client.hset(keys.holders("c1"), "zoe", "nonsense;")),
        Damage.TORN_HOLDER,
        "user zoe",
        ("I3",),
        live=False,
    ),
    "key missing": Case(
        redis(lambda client: client.delete(keys.campaign("c1"))),
        Damage.KEY_MISSING,
        "stock",
        ("I6",),
    ),
}


async def sale(line: Line) -> None:
    """60 facts in the ledger, 20 more in the outbox."""
    await line.publish("c1", 100, per_device=2)
    await line.grant("c1", PERSISTED)
    await line.book("c1")
    await line.grant("c1", WAITING, start=PERSISTED)


@pytest.mark.parametrize("name", CASES)
async def test_the_complete_audit_names_it(line: Line, valkey_client: Any, name: str) -> None:
    """Green before, and then red for exactly the invariants that are broken."""
    case = CASES[name]
    await sale(line)
    before = await line.audit()
    assert before.ok, before
    await case.plant(line, valkey_client)
    report = await line.audit()
    (campaign,) = report.campaigns
    assert (case.damage.name, case.subject) in {f.key for f in campaign.findings}
    red = tuple(name for name, good in campaign.invariants.items() if not good)
    assert red == case.red, campaign.findings
    assert not report.ok


def red_lights(line: Line) -> tuple[str, ...]:
    lights = {
        name: line.metrics.values[("flashgrab_invariant_ok", ("c1", name))] for name in INVARIANTS
    }
    return tuple(name for name, value in lights.items() if not value)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.live])
async def test_the_live_audit_turns_its_invariant_red(
    line: Line, valkey_client: Any, name: str, capsys: Any
) -> None:
    """An audit that begins with the damage there shows it on /metrics and names it in the log."""
    case = CASES[name]
    await sale(line)
    audit = line.live_audit()
    await audit.step()
    assert red_lights(line) == ()
    await case.plant(line, valkey_client)
    audit = line.live_audit()
    await audit.step()
    await audit.step()  # what a change of quotas under way would look like needs two readings
    assert set(red_lights(line)) & set(case.red)
    assert case.damage.name in capsys.readouterr().out


async def steps(audit: LiveAudit, count: int = 3) -> None:
    for _ in range(count):
        await audit.step()


async def test_the_live_audit_goes_on_where_it_was(line: Line) -> None:
    """Step by step while facts are granted, persisted and trimmed, and always green."""
    await line.publish("c1", 1000, per_device=5)
    audit = line.live_audit()
    async with line.running(line.relay(), line.persist(records_max=7), line.walker()):
        for start in range(0, 300, 20):
            await line.grant("c1", 20, start=start)
            await audit.step()
            assert red_lights(line) == ()
        await line.settled("c1", 300)
        await audit.step()
        assert red_lights(line) == ()  # the walker's lights end with it
    assert audit._accounts["c1"].audited == 300


async def test_the_live_audit_turns_green_when_it_is_mended(line: Line, valkey_client: Any) -> None:
    """Red at once, and green after a recount that finds nothing."""
    await sale(line)
    audit = line.live_audit()
    await audit.step()
    valkey_client.hincrby(keys.round_("c1", 1), "left", 1)
    await audit.step()
    assert red_lights(line) == ("I6",)
    valkey_client.hincrby(keys.round_("c1", 1), "left", -1)
    await audit.step()
    assert red_lights(line) == ()


async def test_a_restock_under_way_is_no_alarm(line: Line) -> None:
    """The ledger has the new quota first; Redis follows, and no reading between them is red."""
    await sale(line)
    audit = line.live_audit()
    await audit.step()
    await line.sql("UPDATE campaigns SET version = 2")
    await line.sql("UPDATE rounds SET quota = 150")
    await steps(audit)
    assert red_lights(line) == ()
    await line.store.apply(
        "c1", epoch=1, version=2, operation="o", status="PUBLISHED", quotas=[150]
    )
    await audit.step()
    await line.sql("UPDATE campaigns SET applied_version = 2")
    await steps(audit)
    assert red_lights(line) == ()
    assert (await line.audit()).ok


async def test_an_idle_campaign_is_looked_at_rarely(line: Line, valkey_client: Any) -> None:
    """Nothing new and all in the ledger: the next look comes after a while."""
    await line.publish("c1", 100)
    await line.grant("c1", 10)
    await line.book("c1")
    audit = line.live_audit(idle_ms=3_600_000)
    await audit.step()
    valkey_client.hincrby(keys.round_("c1", 1), "left", 1)
    await audit.step()
    assert red_lights(line) == ()
    await line.grant("c1", 1, start=50)
    await audit.step()
    assert red_lights(line) == ("I6",)


async def test_the_numbers_of_the_report(line: Line) -> None:
    """The JSON has the shape of the contract, with coupons counted from the facts."""
    await sale(line)
    report = (await line.audit()).as_json()
    assert report == {
        "ok": True,
        "campaigns": [
            {
                "campaign_id": "c1",
                "quota": 100,
                "left": 20,
                "granted": 80,
                "returned": 0,
                "persisted": 60,
                "watermark": 60,
                "outbox": 20,
                "invariants": dict.fromkeys(INVARIANTS, True),
                "findings": [],
            }
        ],
        "findings": [],
        "kafka": {"behind": None},
    }


async def test_kafkas_progress_is_told(line: Line) -> None:
    """How many records the ledger has not read, and nothing where Kafka does not answer."""
    await line.publish("c1", 100)
    await line.grant("c1", 30)
    async with line.running(line.relay()):
        await until(lambda: _relayed(line, 30))
    log = line.topic_log()
    assert (await Audit(line.pool, line.store, line.clock, log).run()).kafka == 30
    async with line.running(line.persist()):
        await line.persisted("c1", 30)
    assert (await Audit(line.pool, line.store, line.clock, log).run()).kafka == 0
    away = TopicLog("127.0.0.1:1", keys.GRABS_TOPIC, deadline_ms=200)
    assert (await Audit(line.pool, line.store, line.clock, away).run()).kafka is None
    await away.stop()


async def _relayed(line: Line, count: int) -> bool:
    return line.metrics.values.get(("flashgrab_relayed_facts", ()), 0) >= count


async def test_drain_waits_for_the_ledger(line: Line) -> None:
    """It ends when everything is in the ledger, and says so where that never comes."""
    await sale(line)
    late = await line.audit(drain_ms=50)
    assert [f.damage for f in late.campaigns[0].findings] == [Damage.NOT_DRAINED]
    async with line.running(line.relay(), line.persist(), line.walker()):
        report = await line.audit(drain_ms=20_000)
    assert report.ok, report
    assert report.campaigns[0].watermark == PERSISTED + WAITING


async def test_campaigns_and_dead_letters_that_nobody_knows(line: Line, valkey_client: Any) -> None:
    """They belong to no campaign of the ledger, and are wrong all the same."""
    await sale(line)
    valkey_client.sadd(keys.REGISTRY, "ghost")
    await line.sql(DEAD.format("NULL"))
    report = await line.audit()
    assert {f.key for f in report.findings} == {
        ("UNKNOWN_CAMPAIGN", "ghost"),
        ("DEAD_LETTER", "1 of no campaign"),
    }
    assert not report.ok
    assert report.campaigns[0].findings == []
    one = await line.audit("ghost")
    assert [f.damage for f in one.campaigns[0].findings] == [Damage.UNKNOWN_CAMPAIGN]


async def test_a_draft_is_not_audited(line: Line) -> None:
    """What was never published has no books."""
    await line.publish("c1")
    await line.sql("UPDATE campaigns SET status = 'DRAFT'")
    await line.store._redis.delete(keys.REGISTRY)
    report = await line.audit()
    assert report.campaigns == []
    assert report.ok


async def test_it_is_green_in_the_middle_of_a_sale(line: Line) -> None:
    """Complete audits while facts are granted, persisted and trimmed call nothing wrong."""
    await line.publish("c1", 2000)
    async with line.running(line.relay(), line.persist(records_max=30), line.walker()):
        for start in range(0, 600, 100):
            await line.grant("c1", 100, start=start)
            report = await line.audit()
            assert report.ok, report
        await line.settled("c1", 600)
