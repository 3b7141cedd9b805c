"""What may be said of a person without Redis, and what must be asked."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from flashgrab.errors import StoreUnavailable
from flashgrab.outcomes import Outcome
from flashgrab.state import CampaignState, RoundState
from flashgrab.store import Store
from gateway import memory as memory_module
from gateway.campaigns import Campaign
from gateway.decisions import Decision, Grant, Reply
from gateway.holders import Filter, Holders
from gateway.memory import Memory
from tests.gateway.serving import until
from tests.gateway.test_campaigns import state

pytestmark = pytest.mark.anyio

OPEN_MS = 1500
GRANT = Grant(1, 1, 1, "g", "k1")


class People(Store):
    """A store that knows these holders and devices."""

    def __init__(self, users: list[str], devices: list[str], now: CampaignState) -> None:
        self.users, self.device_list, self.now = users, devices, now
        self.walks = 0
        self.gone = False

    async def read(self, campaign_id: str) -> CampaignState | None:
        if self.gone:
            raise StoreUnavailable("gone")
        return self.now

    async def holder_counts(self, campaign_id: str) -> tuple[int, int]:
        return len(self.users), len(self.device_list)

    async def holders(self, campaign_id: str) -> AsyncIterator[tuple[str, str]]:
        self.walks += 1
        for user in self.users:
            yield user, "1,1,1,g,k1;"

    async def device_ids(self, campaign_id: str) -> AsyncIterator[str]:
        for device in self.device_list:
            yield device


def sold_out(**changes: Any) -> Campaign:
    """Of two rounds the first is open, and empty; one grant was given."""
    campaign = Campaign("c")
    campaign.update(state(left=[0, 7], seq=1, **changes), OPEN_MS)
    return campaign


def ask(
    memory: Memory, campaign: Campaign, user: str, key: str = "k", device: str = ""
) -> Decision | None:
    return memory.decide(campaign, "r", user.encode(), device.encode(), key.encode(), OPEN_MS)


def reply_of(campaign: Campaign, left: int = 0) -> Reply:
    assert campaign.state is not None
    return Reply(campaign.state.epoch, campaign.state.generation, campaign.floor, 1500, 1, left)


# -- the filter --------------------------------------------------------------------------------


def test_a_filter_forgets_nobody_and_mistakes_few() -> None:
    """Every name that was added may hold; of the others fewer than 1 in 300; 4 to 8 bytes each."""
    found = Filter(20_000)
    for n in range(20_000):
        found.add(b"in-%d" % n)
    assert all(found.may_hold(b"in-%d" % n) for n in range(20_000))
    assert sum(found.may_hold(b"out-%d" % n) for n in range(30_000)) < 100
    assert 4 * 20_000 <= found.bytes <= 8 * 20_000


async def test_strangers_are_refused_once_the_holders_are_loaded() -> None:
    """Before that the script is asked; holders are asked about always."""
    campaign = sold_out()
    assert campaign.state is not None
    store = People(["winner"], [], campaign.state)
    memory = Memory(store)
    assert ask(memory, campaign, "stranger") is None
    await until("the holders are loaded", lambda: ask(memory, campaign, "stranger"))
    assert ask(memory, campaign, "stranger") == Decision(Outcome.SOLD_OUT, (), OPEN_MS)
    assert ask(memory, campaign, "winner") is None
    assert store.walks == 1
    await memory.stop()


async def test_a_device_that_holds_is_no_stranger() -> None:
    """Where devices are limited DEVICE_LIMIT comes before SOLD_OUT: only the script knows."""
    campaign = sold_out(per_device=1)
    assert campaign.state is not None
    memory = Memory(People(["winner"], ["phone"], campaign.state))
    await until("loaded", lambda: ask(memory, campaign, "stranger", device="tablet"))
    assert ask(memory, campaign, "stranger", device="phone") is None
    await memory.stop()


async def test_a_fact_that_was_not_known_makes_the_filter_worthless() -> None:
    """A grant of another gateway, heard of later, may be of anybody: load again."""
    campaign = sold_out()
    assert campaign.state is not None
    store = People(["winner"], [], campaign.state)
    memory = Memory(store)
    await until("loaded", lambda: ask(memory, campaign, "stranger"))
    store.users.append("stranger")
    store.now = replace(campaign.state, seq=2)
    campaign.update(store.now, OPEN_MS)
    assert ask(memory, campaign, "stranger") is None
    await until("loaded again", lambda: ask(memory, campaign, "third"))
    assert ask(memory, campaign, "stranger") is None
    assert store.walks == 2
    await memory.stop()


async def test_a_grant_during_the_walk_spoils_it() -> None:
    """HSCAN may have passed the place of a holder who came while it walked."""
    campaign = sold_out()
    assert campaign.state is not None

    class Moving(People):
        async def holders(self, campaign_id: str) -> AsyncIterator[tuple[str, str]]:
            async for row in super().holders(campaign_id):
                yield row
            if self.walks == 1:
                campaign.learn(1, 2, 1, 0, OPEN_MS)
                self.now = replace(self.now, seq=2)

    store = Moving(["winner"], [], campaign.state)
    holders = Holders(campaign, store, asyncio.Semaphore(1))
    await until("loaded", lambda: holders.complete() is not None)
    assert store.walks == 2
    await holders.stop()


async def test_too_many_holders_are_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the bound everybody is asked about; and so it is while Redis is away."""
    monkeypatch.setattr("gateway.holders.HOLDERS_MAX", 1)
    monkeypatch.setattr("gateway.holders.LOAD_PAUSE_MS", 1)
    campaign = sold_out()
    assert campaign.state is not None
    store = People(["a", "b"], [], campaign.state)
    holders = Holders(campaign, store, asyncio.Semaphore(1))
    store.gone = True
    for _ in range(20):
        assert holders.complete() is None
        await asyncio.sleep(0.002)
        store.gone = False
    assert store.walks == 0
    await holders.stop()


# -- persons -----------------------------------------------------------------------------------


def memory_of(campaign: Campaign, *, user: str, key: str, decision: Decision) -> Memory:
    memory = Memory(People([user], [], state()))
    memory.learn(campaign, user.encode(), b"", key.encode(), decision, reply_of(campaign))
    return memory


async def test_a_limit_holds_for_every_key_and_replays_his_own() -> None:
    """Also while the round is open, where it saves most."""
    campaign = Campaign("c")
    campaign.update(state(seq=1), OPEN_MS)
    limit = Decision(Outcome.USER_LIMIT, (GRANT,), 1)
    memory = memory_of(campaign, user="u", key="k2", decision=limit)
    assert ask(memory, campaign, "u", "k9") == Decision(Outcome.USER_LIMIT, (GRANT,), 1)
    assert ask(memory, campaign, "u", "k1") == Decision(Outcome.REPLAYED, (GRANT,), 1)
    assert ask(memory, campaign, "v", "k1") is None


async def test_a_replay_says_nothing_of_other_keys() -> None:
    """He may hold less than he may have."""
    campaign = Campaign("c")
    campaign.update(state(seq=1, per_user=3), OPEN_MS)
    memory = memory_of(
        campaign, user="u", key="k1", decision=Decision(Outcome.REPLAYED, (GRANT,), 1)
    )
    assert ask(memory, campaign, "u", "k1") == Decision(Outcome.REPLAYED, (GRANT,), 1)
    assert ask(memory, campaign, "u", "k2") is None


async def test_a_refused_key_is_refused_again_until_anybody_is_granted_something() -> None:
    """The next grant may be his, at another gateway and under this very key."""
    campaign = sold_out()
    memory = memory_of(campaign, user="u", key="k", decision=Decision(Outcome.SOLD_OUT, (), 1))
    assert ask(memory, campaign, "u", "k") == Decision(Outcome.SOLD_OUT, (), OPEN_MS)
    assert ask(memory, campaign, "u", "other") is None
    assert campaign.state is not None
    campaign.update(replace(campaign.state, seq=2), OPEN_MS)
    assert ask(memory, campaign, "u", "k") is None
    await memory.stop()


async def test_a_refusal_grows_no_younger_by_another_answer() -> None:
    """The key that was refused may have been granted elsewhere before his next key was asked."""
    campaign = sold_out()
    memory = memory_of(campaign, user="u", key="k", decision=Decision(Outcome.SOLD_OUT, (), 1))
    assert campaign.state is not None
    campaign.update(replace(campaign.state, seq=2), OPEN_MS)
    replay = Decision(Outcome.REPLAYED, (GRANT,), 1)
    memory.learn(campaign, b"u", b"", b"k1", replay, reply_of(campaign))
    assert ask(memory, campaign, "u", "k") is None
    await memory.stop()


async def test_a_device_at_its_limit_hides_no_grant() -> None:
    """Its answer names no grants: only the key that was refused is refused again."""
    campaign = Campaign("c")
    campaign.update(state(seq=1, per_user=3, per_device=1), OPEN_MS)
    memory = memory_of(campaign, user="u", key="k2", decision=Decision(Outcome.DEVICE_LIMIT, (), 1))
    assert ask(memory, campaign, "u", "k2") == Decision(Outcome.DEVICE_LIMIT, (), OPEN_MS)
    assert ask(memory, campaign, "u", "k1") is None


async def test_closed_comes_before_the_limit_and_after_the_replay() -> None:
    """The precedence of the contract."""
    campaign = Campaign("c")
    campaign.update(state(seq=1), OPEN_MS)
    limit = Decision(Outcome.USER_LIMIT, (GRANT,), 1)
    memory = memory_of(campaign, user="u", key="k2", decision=limit)
    assert campaign.state is not None
    campaign.update(replace(campaign.state, status="PAUSED"), OPEN_MS)
    assert ask(memory, campaign, "u", "k9") == Decision(Outcome.PAUSED, (), OPEN_MS)
    assert ask(memory, campaign, "u", "k1") == Decision(Outcome.REPLAYED, (GRANT,), 1)


@pytest.mark.parametrize("change", [{"generation": 2}, {"epoch": 2}])
async def test_another_generation_or_epoch_forgets(change: dict[str, Any]) -> None:
    """A return may have made room, a rebuild another world."""
    campaign = Campaign("c")
    campaign.update(state(seq=1), OPEN_MS)
    limit = Decision(Outcome.USER_LIMIT, (GRANT,), 1)
    memory = memory_of(campaign, user="u", key="k2", decision=limit)
    assert campaign.state is not None
    old = reply_of(campaign)
    campaign.update(replace(campaign.state, **change), OPEN_MS)
    assert ask(memory, campaign, "u", "k9") is None
    assert ask(memory, campaign, "u", "k1") is None
    memory.learn(campaign, b"u", b"", b"k9", limit, old)  # a reply that was under way
    assert ask(memory, campaign, "u", "k9") is None


async def test_what_is_known_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest are forgotten: the script knows them still."""
    monkeypatch.setattr(memory_module, "KNOWN_MAX", 10)
    monkeypatch.setattr(memory_module, "FORGET_EACH", 5)
    campaign = Campaign("c")
    campaign.update(state(seq=1, rounds=(RoundState(1, 0, 10**9, 9, 9, 0, 0),)), OPEN_MS)
    memory = Memory(People([], [], state()))
    limit = Decision(Outcome.USER_LIMIT, (GRANT,), 1)
    for n in range(25):
        memory.learn(campaign, b"u%d" % n, b"", b"k", limit, reply_of(campaign))
        assert len(memory._known) <= 10
    assert ask(memory, campaign, "u24", "x") is not None
    assert ask(memory, campaign, "u0", "x") is None
