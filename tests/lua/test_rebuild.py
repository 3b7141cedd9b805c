"""fence.lua, stage.lua and rebuild.lua: what they refuse, and that nothing changes then."""

from typing import Any

import pytest
from hiredis import ReplyError

from flashgrab import keys
from flashgrab.outcomes import Verdict
from flashgrab.scripts import CONFIRM, FENCE, REBUILD, STAGE
from tests.lua.seeds import CAMPAIGN, DEVICES, HOLDERS, ID, OUTBOX, R1, changed, grab, open_now
from tests.lua.server import Client

STAGED = [keys.staged(ID), keys.staged_holders(ID), keys.staged_devices(ID)]
KEYS = [CAMPAIGN, HOLDERS, DEVICES, OUTBOX, *STAGED, R1]


def rebuild(redis: Client, epoch: int, users: int, devices: int) -> Any:
    now_ms = redis.now_ms()
    args = ["1", epoch, "run-1", 3, "op-3", "{}", 2, 1, 1000, "PUBLISHED", 500, users, devices]
    return redis.script(REBUILD, KEYS, [*args, now_ms - 1000, now_ms + 10**6, 10, 3, 1])


def test_a_fenced_campaign_grants_nothing_and_is_not_confirmed(redis: Client) -> None:
    """Neither new keys nor old ones are answered; whether the server knew all is told once."""
    redis.seed(open_now(redis))
    assert grab(redis, ("a", "", "k")).results == [1]
    assert redis.script(FENCE, [CAMPAIGN], [1, "run-1"]) == [0, 1, 1]
    assert redis.script(FENCE, [CAMPAIGN], [1, "run-1"]) == [0, 1, 0]
    assert grab(redis, ("a", "", "k")).verdict is Verdict.RUN
    assert redis.script(CONFIRM, [CAMPAIGN], [1, 1, "run-1"]) == [4, 1]
    assert redis.call("HGET", CAMPAIGN, "run") == "rebuild"


def test_a_late_fence_closes_no_other_epoch(redis: Client) -> None:
    """One for an epoch that is over, or for a campaign that is not there, changes nothing."""
    assert redis.script(FENCE, [CAMPAIGN], [1, "run-1"]) == [1, 0, 0]
    seed = open_now(redis, epoch=2, seq=7)
    redis.seed(seed)
    assert redis.script(FENCE, [CAMPAIGN], [1, "run-1"]) == [2, 7, 0]
    assert redis.state() == dict(sorted(seed.items()))


def test_staged_and_switched(redis: Client) -> None:
    """Two of three users hold one coupon each, one was returned: the whole state afterwards."""
    seed = open_now(redis, per_user=1, serial=9, seq=9)
    redis.seed(changed(seed, {HOLDERS: {"old": "9,9,1,g,k;"}, DEVICES: {"old": 1}}))
    held = ["a", "1,1,1,g,k;", "b", "2,2,1,g,k;", "c", "3,3,1,r,k;"]
    assert redis.script(STAGE, STAGED, [2, "holders", *held]) == [1]
    assert redis.script(STAGE, STAGED, [2, "begin"]) == [0]
    assert redis.script(STAGE, STAGED, [3, "holders", *held]) == [1]
    assert redis.script(STAGE, STAGED, [2, "holders", *held]) == [0]
    before = redis.state()
    assert rebuild(redis, 2, 3, 2) == [3, 1]
    assert rebuild(redis, 3, 3, 0) == [3, 1]
    assert redis.state() == before
    assert redis.script(STAGE, STAGED, [2, "devices", "x", 1, "y", 1]) == [0]
    assert rebuild(redis, 2, 3, 2) == [0, 2]
    after = redis.state()
    assert sorted(after) == sorted([CAMPAIGN, HOLDERS, DEVICES, R1])
    assert after[HOLDERS] == {"a": held[1], "b": held[3], "c": held[5]}
    assert after[DEVICES] == {"x": "1", "y": "1"}
    assert redis.call("HMGET", R1, "quota", "left", "granted", "returned") == ["10", "8", "3", "1"]
    numbers = redis.call("HMGET", CAMPAIGN, "epoch", "seq", "serial", "watermark", "per_user")
    assert numbers == ["2", "500", "500", "500", "2"]
    assert rebuild(redis, 2, 3, 2) == [1, 2]
    assert rebuild(redis, 1, 3, 2) == [2, 2]
    assert redis.state() == after
    reply = grab(redis, ("a", "x", "k"), ("d", "z", "k"), ("c", "q", "k"), epoch=2)
    assert reply.results == ["R1,1,1,g,k;", 501, "R3,3,1,r,k;"]


def test_no_room_for_the_new_epoch(redis: Client) -> None:
    """When memory is full pages are refused, and the campaign stays as it was."""
    redis.seed(open_now(redis))
    assert redis.script(STAGE, STAGED, [2, "begin"]) == [0]
    before = redis.state()
    redis.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ReplyError, match="OOM"):
        redis.script(STAGE, STAGED, [2, "holders", "a", "1,1,1,g,k;"])
    assert redis.state() == before
