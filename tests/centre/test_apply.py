"""Redis follows the ledger: through crashes, an old copy of its data, and never from nothing."""

import asyncio
from collections.abc import Callable

import pytest

from centre.apply import WHY, Applier
from flashgrab import keys
from flashgrab.alarms import Alarm
from flashgrab.errors import StoreUnavailable
from flashgrab.ledger import campaigns
from flashgrab.ledger.operations import Change
from flashgrab.state import CampaignState, RoundState
from flashgrab.store import Store
from flashgrab.tasks import end
from tests.centre.serving import NOW_MS, Sides, operation, until
from tests.services import embedded

pytestmark = pytest.mark.anyio

PUBLISH_STEPS = ("before publish", "published", "applied", "marked", "registered")
APPLY_STEPS = ("before apply", "applied", "marked")


class Crash(BaseException):
    """The process ends right here."""


class CrashAt:
    """Crashes at one step, and knows whether it did."""

    def __init__(self, step: str) -> None:
        self._step = step
        self.fired = False

    def __call__(self, step: str) -> None:
        if step == self._step:
            self.fired = True
            raise Crash


def applier(sides: Sides, reached: Callable[[str], None] = lambda _step: None) -> Applier:
    return Applier(sides.pool, sides.store, reached=reached)


async def change(sides: Sides, campaign_id: str, wanted: Change) -> None:
    await sides.operations.change(operation(), campaign_id, wanted)


async def agreed(sides: Sides, campaign_id: str) -> CampaignState:
    """Redis' side, once it is checked that the ledger knows of it, and the registry as well."""
    campaign = await campaigns.get(sides.pool, campaign_id)
    state = await sides.store.read(campaign_id)
    assert campaign is not None
    assert state is not None
    assert campaign.version == campaign.applied_version == state.version
    assert campaign.status == state.status
    assert [r.quota for r in campaign.rounds] == [r.quota for r in state.rounds]
    assert campaign_id in await sides.store.registry()
    return state


async def test_publishes_the_whole_campaign(sides: Sides) -> None:
    """A published campaign appears in Redis with everything that gateways need."""
    campaign_id = await sides.published(per_user=2, per_device=3, limits={"user": "5/10s"})
    await applier(sides).catch_up()
    limits = {"user": "5/10s", "device": None, "address": None, "campaign": None, "passes": None}
    assert await agreed(sides, campaign_id) == CampaignState(
        campaign_id=campaign_id,
        schema="1",
        epoch=1,
        run=await sides.store.run_id(),
        generation=1,
        version=2,
        status="PUBLISHED",
        definition={
            "id": campaign_id,
            "name": "A test",
            "rule": {"kind": "amount_off", "amount": 3000, "threshold": 20000},
            "limits": limits,
        },
        per_user=2,
        per_device=3,
        serial=0,
        seq=0,
        watermark=0,
        holes="",
        rounds=(RoundState(1, NOW_MS, NOW_MS + 3_600_000, 10, 10, 0, 0),),
    )


async def test_gateways_are_told_of_the_durability(sides: Sides) -> None:
    """A campaign that asks for a replica says so in Redis; any other says nothing."""
    asks = await sides.published(durability="replica")
    other = await sides.published(durability="fsync")
    await applier(sides).catch_up()
    assert (await agreed(sides, asks)).waits_for_replica
    state = await agreed(sides, other)
    assert not state.waits_for_replica
    assert "durability" not in state.definition


async def test_a_draft_stays_outside(sides: Sides) -> None:
    """A DRAFT leaves no trace in Redis."""
    campaign_id = await sides.published()
    await sides.rows("UPDATE campaigns SET status = 'DRAFT'")
    await applier(sides).catch_up()
    assert await sides.store.read(campaign_id) is None
    assert not await sides.store.registry()


@pytest.mark.parametrize("step", PUBLISH_STEPS)
async def test_a_crash_while_publishing_is_only_a_delay(sides: Sides, step: str) -> None:
    """A process that ends at any step of a publish is followed by one that completes it."""
    campaign_id = await sides.published()
    crash = CrashAt(step)
    with pytest.raises(Crash):
        await applier(sides, crash).catch_up()
    assert crash.fired
    await change(sides, campaign_id, Change("restock", 1, 5))
    await applier(sides).catch_up()
    state = await agreed(sides, campaign_id)
    assert (state.version, state.rounds[0].quota, state.rounds[0].left) == (3, 15, 15)


@pytest.mark.parametrize("step", APPLY_STEPS)
async def test_a_crash_while_applying_is_only_a_delay(sides: Sides, step: str) -> None:
    """A process that ends at any step of a restock is followed by one that completes it once."""
    campaign_id = await sides.published()
    await applier(sides).catch_up()
    await change(sides, campaign_id, Change("restock", 1, 5))
    crash = CrashAt(step)
    with pytest.raises(Crash):
        await applier(sides, crash).catch_up()
    assert crash.fired
    await applier(sides).catch_up()
    state = await agreed(sides, campaign_id)
    assert (state.version, state.generation) == (3, 2)
    assert (state.rounds[0].quota, state.rounds[0].left) == (15, 15)


@pytest.mark.parametrize("action", ["pause", "close"])
async def test_paused_or_closed_before_redis_had_it(sides: Sides, action: str) -> None:
    """A campaign that left PUBLISHED before its first application arrives in its own status."""
    campaign_id = await sides.published()
    await change(sides, campaign_id, Change("pause" if action == "pause" else "close"))
    await applier(sides).catch_up()
    state = await agreed(sides, campaign_id)
    assert state.status == {"pause": "PAUSED", "close": "OFFLINE"}[action]


async def test_several_changes_are_one_target(sides: Sides) -> None:
    """Changes made while Redis was away arrive together: absolute quota, last status."""
    campaign_id = await sides.published()
    await applier(sides).catch_up()
    for wanted in (Change("restock", 1, 5), Change("pause"), Change("restock", 1, 2)):
        await change(sides, campaign_id, wanted)
    await applier(sides).catch_up()
    state = await agreed(sides, campaign_id)
    assert (state.status, state.generation) == ("PAUSED", 2)
    assert (state.rounds[0].quota, state.rounds[0].left) == (17, 17)


async def test_two_centres_at_once(sides: Sides) -> None:
    """Two loops over the same changes publish each campaign once and agree."""
    ids = [await sides.published() for _ in range(5)]
    await asyncio.gather(applier(sides).catch_up(), applier(sides).catch_up())
    for campaign_id in ids:
        assert (await agreed(sides, campaign_id)).generation == 1


async def test_a_lost_key_is_not_created_again(sides: Sides) -> None:
    """After Redis lost a campaign there is no new stock: it stays away, and the centre says so."""
    campaign_id = await sides.published()
    running = applier(sides)
    await running.catch_up()
    await sides.store._redis.flushall()
    await change(sides, campaign_id, Change("restock", 1, 5))
    for loop in (running, applier(sides)):
        await loop.catch_up()
        assert await sides.store.read(campaign_id) is None
        assert loop.troubles == {campaign_id: WHY[2][1]}
        assert loop._alarms.is_on(Alarm.REDIS_DATA_LOST, campaign_id)
    assert await campaigns.behind(sides.pool) == [campaign_id]


async def test_a_lost_registry_heals(sides: Sides) -> None:
    """Campaigns return into a registry that was lost, closed ones too."""
    ids = {await sides.published() for _ in range(3)}
    await applier(sides).catch_up()
    await change(sides, min(ids), Change("close"))
    await sides.store._redis.delete(keys.REGISTRY)
    await applier(sides).catch_up()
    assert await sides.store.registry() == ids


async def test_an_old_copy_of_redis_is_brought_forward(sides: Sides) -> None:
    """Another server that missed a change is noticed by its run_id and gets the change."""
    campaign_id = await sides.published()
    running = applier(sides)
    await running.catch_up()
    await change(sides, campaign_id, Change("close"))
    await running.catch_up()
    await sides.store._redis.hset(keys.campaign(campaign_id), "version", 2)
    await sides.store._redis.hset(keys.campaign(campaign_id), "status", "PUBLISHED")
    running._agreed_run = "another server"
    await running.catch_up()
    assert (await agreed(sides, campaign_id)).status == "OFFLINE"


async def test_a_campaign_of_another_ledger_is_left_alone(sides: Sides) -> None:
    """Where Redis has other grants under the same id, nothing is touched and it is said."""
    campaign_id = await sides.published()
    await applier(sides).catch_up()
    await sides.store._redis.hset(keys.campaign(campaign_id), "seq", 7)
    before = await sides.store.read(campaign_id)
    await sides.rows("UPDATE campaigns SET applied_version = 0")
    loop = applier(sides)
    await loop.catch_up()
    assert await sides.store.read(campaign_id) == before
    assert loop.troubles == {
        campaign_id: "Redis has another campaign under this id, from another ledger"
    }
    assert await campaigns.applied_version(sides.pool, campaign_id) == 0


async def test_one_campaign_in_trouble_does_not_hold_up_the_others(sides: Sides) -> None:
    """A campaign that cannot be applied is passed over; trouble that ends is forgotten."""
    stuck, fine = await sides.published(), await sides.published()
    loop = applier(sides)
    await loop.catch_up()
    await sides.store._redis.hset(keys.campaign(stuck), "epoch", 2)
    for campaign_id in (stuck, fine):
        await change(sides, campaign_id, Change("pause"))
    await loop.catch_up()
    assert loop.troubles == {stuck: WHY[3][1]}
    assert loop._alarms.is_on(Alarm.EPOCH_DIFFERS, stuck)
    assert (await agreed(sides, fine)).status == "PAUSED"
    await sides.store._redis.hset(keys.campaign(stuck), "epoch", 1)
    await loop.catch_up()
    assert loop.troubles == {}
    assert not loop._alarms.is_on(Alarm.EPOCH_DIFFERS)
    assert (await agreed(sides, stuck)).status == "PAUSED"


async def test_every_change_is_announced(sides: Sides) -> None:
    """Gateways are told of a publish and of a change."""
    pushes = sides.store.changes()
    first = asyncio.ensure_future(anext(pushes))

    async def is_heard() -> bool:
        return bool((await sides.store._redis.pubsub_numsub(keys.CHANGES))[0][1])

    await until(is_heard)
    async with asyncio.timeout(10):
        campaign_id = await sides.published()
        await applier(sides).catch_up()
        assert await first == campaign_id
        await change(sides, campaign_id, Change("pause"))
        await applier(sides).catch_up()
        assert await anext(pushes) == campaign_id
    await pushes.aclose()  # type: ignore[attr-defined]


async def test_the_loop_is_woken_and_waits_no_longer_than_told(sides: Sides) -> None:
    """A change is in Redis long before the loop's own pause ends; one of a lost key is not."""
    loop = Applier(sides.pool, sides.store, pause_ms=3_600_000)
    task = asyncio.create_task(loop.run())
    try:
        campaign_id = await sides.published()
        assert await loop.applied(campaign_id, 2, 5000)
        await sides.store._redis.flushall()
        await change(sides, campaign_id, Change("pause"))
        assert not await loop.applied(campaign_id, 3, 50)
    finally:
        await end([task])


async def test_redis_away_is_waited_for(sides: Sides) -> None:
    """Changes made while Redis is down arrive when it is back, without anybody asking."""
    with embedded.valkey(aof=True) as valkey:
        async with Store(valkey.url) as store:
            sides.store = store
            campaign_id = await sides.published()
            loop = Applier(sides.pool, store, pause_ms=10)
            task = asyncio.create_task(loop.run())
            assert await loop.applied(campaign_id, 2, 5000)
            valkey.kill()
            await change(sides, campaign_id, Change("restock", 1, 5))
            assert not await loop.applied(campaign_id, 3, 100)
            with pytest.raises(StoreUnavailable):
                await store.run_id()
            embedded.again(valkey)
            assert await loop.applied(campaign_id, 3, 10_000)
            assert (await agreed(sides, campaign_id)).rounds[0].left == 15
            await end([task])
