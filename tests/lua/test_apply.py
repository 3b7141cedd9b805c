"""apply.lua: seed, call, compare the whole state."""

import pytest

from flashgrab.scripts import APPLY
from tests.lua.seeds import CAMPAIGN, R1, R2, campaign, changed, grab, open_now, round_
from tests.lua.server import Client, State

APPLIED, ALREADY, MISSING, EPOCH, BELOW = range(5)


def two_rounds(redis: Client) -> State:
    now_ms = redis.now_ms()
    return {
        CAMPAIGN: campaign(version=4, generation=2, rounds=2, serial=7, seq=7),
        R1: round_(now_ms - 1000, now_ms + 10**6, quota=10, granted=7),
        R2: round_(now_ms + 10**6, now_ms + 10**7, quota=5),
    }


def test_applied(redis: Client) -> None:
    """Quota and status become the target's; left moves by the difference; generation grows."""
    seed = two_rounds(redis)
    redis.seed(seed)
    args = [1, 5, "op-5", "PAUSED", 12, 3]
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [APPLIED, 3]
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"version": 5, "operation": "op-5", "status": "PAUSED", "generation": 3},
            R1: {"quota": 12, "left": 5},
            R2: {"quota": 3, "left": 3},
        },
    )


@pytest.mark.parametrize("version", [4, 3, 0])
def test_already(redis: Client, version: int) -> None:
    """A version that was applied, or one before it, changes nothing, whatever it says."""
    seed = two_rounds(redis)
    redis.seed(seed)
    args = [1, version, "op-x", "OFFLINE", 99, 99]
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [ALREADY, 2]
    assert redis.state() == seed


def test_repeated(redis: Client) -> None:
    """The same target twice is the same as once."""
    redis.seed(two_rounds(redis))
    args = [1, 5, "op-5", "PUBLISHED", 12, 5]
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [APPLIED, 3]
    before = redis.state()
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [ALREADY, 3]
    assert redis.state() == before


def test_missing(redis: Client) -> None:
    """A campaign, or one of its rounds, that is not there is not made by a change."""
    assert redis.script(APPLY, [CAMPAIGN, R1], [1, 5, "op", "PAUSED", 1]) == [MISSING, 0]
    assert redis.state() == {}
    seed = two_rounds(redis)
    del seed[R2]
    redis.seed(seed)
    args = [1, 5, "op-5", "PAUSED", 12, 3]
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [MISSING, 2]
    assert redis.state() == seed


def test_epoch(redis: Client) -> None:
    """A change for another epoch changes nothing."""
    seed = two_rounds(redis)
    redis.seed(seed)
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], [2, 5, "op", "PAUSED", 12, 3]) == [EPOCH, 2]
    assert redis.state() == seed


def test_below(redis: Client) -> None:
    """A quota below what is granted is refused whole, also where only one round is at fault."""
    seed = two_rounds(redis)
    redis.seed(seed)
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], [1, 5, "op", "PAUSED", 6, 3]) == [BELOW, 2]
    assert redis.state() == seed
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], [1, 5, "op", "PAUSED", 7, 0]) == [APPLIED, 3]
    assert redis.call("HMGET", R1, "quota", "left") == ["7", "0"]


def test_restock_reopens(redis: Client) -> None:
    """A round that was sold out grants exactly what a restock added, under a new generation."""
    redis.seed(open_now(redis, quota=1))
    assert grab(redis, ("a", "", "k"), ("b", "", "k")).results == [1, -8]
    redis.script(APPLY, [CAMPAIGN, R1], [1, 2, "op-2", "PUBLISHED", 3])
    reply = grab(redis, ("b", "", "k"), ("c", "", "k"), ("d", "", "k"))
    assert (reply.results, reply.generation) == ([2, 3, -8], 2)


def test_full_memory_does_not_keep_a_sale_open(redis: Client) -> None:
    """Pause and close go on when memory is full."""
    seed = two_rounds(redis)
    redis.seed(seed)
    redis.call("CONFIG", "SET", "maxmemory", 1)
    args = [1, 5, "op-5", "OFFLINE", 10, 5]
    assert redis.script(APPLY, [CAMPAIGN, R1, R2], args) == [APPLIED, 3]
    assert redis.call("HGET", CAMPAIGN, "status") == "OFFLINE"
