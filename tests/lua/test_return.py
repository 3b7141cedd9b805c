"""return.lua: seed, call, compare the whole state."""

from typing import Any

import hiredis
import pytest

from flashgrab.scripts import RETURN
from tests.lua.seeds import CAMPAIGN, DEVICES, HOLDERS, OUTBOX, R1, R2, changed, entry, open_now
from tests.lua.server import Client, State

RETURNED, MISSING, EPOCH, RUN, FLOOR, SCHEMA, UNKNOWN, ALREADY, BUSY = range(9)


def sold(redis: Client, **fields: object) -> State:
    """Two coupons of ann, one of them returned, and one of bob; seq 4."""
    plain: dict[str, Any] = {"serial": 3, "seq": 4, "per_device": 2, "rounds": 2, "watermark": 4}
    state = open_now(redis, granted=2, **(plain | fields))
    state[R2] = open_now(redis)[R1]
    state = changed(state, {R1: {"granted": 3, "returned": 1}})
    state[HOLDERS] = {"ann": "1,1,1,g,k1;3,3,1,r,k3;", "bob": "2,2,1,g,k;"}
    state[DEVICES] = {"d": "2"}
    return state


def give_back(redis: Client, *, key: str = R1, **changes: Any) -> Any:
    args = {
        "schema": "1", "epoch": 1, "run": "run-1", "floor": 4, "serial": 1, "number": 1,
        "user": "ann", "device": "d",
    } | changes  # fmt: skip
    return redis.script(RETURN, [CAMPAIGN, HOLDERS, DEVICES, OUTBOX, key], list(args.values()))


def test_returned(redis: Client) -> None:
    """The mark, the fact, the stock of its round, the device; and the last coupon on a device
    takes its entry along."""
    seed = sold(redis)
    redis.seed(seed)
    assert give_back(redis) == [RETURNED, 5]
    now: Any = redis.state()
    at_ms = int(now[OUTBOX][0][1]["at_ms"])
    after = changed(
        seed,
        {
            CAMPAIGN: {"seq": 5, "generation": 2},
            R1: {"left": 9, "returned": 2},
            HOLDERS: {"ann": "1,1,1,r,k1;3,3,1,r,k3;"},
            DEVICES: {"d": "1"},
            OUTBOX: [entry(5, 5, "r,1,1,ann,d,k1", at_ms)],
        },
    )
    assert now == after
    assert give_back(redis, user="bob", serial=2) == [RETURNED, 6]
    last: Any = redis.state()
    assert last[OUTBOX][1][1]["facts"] == "r,2,1,bob,d,k"
    assert DEVICES not in last


@pytest.mark.parametrize(
    "code,changes",
    [
        (EPOCH, {"epoch": 2}),
        (RUN, {"run": "run-2"}),
        (FLOOR, {"floor": 5}),
        (SCHEMA, {"schema": "2"}),
        (UNKNOWN, {"user": "eve"}),
        (UNKNOWN, {"user": "bob"}),
        (UNKNOWN, {"serial": 9}),
        (UNKNOWN, {"serial": 11}),
        (UNKNOWN, {"number": 2, "key": R2}),
        (MISSING, {"number": 3, "key": "{c:c-1}:r:3"}),
        (ALREADY, {"serial": 3}),
    ],
)
def test_refused(redis: Client, code: int, changes: dict[str, Any]) -> None:
    """What does not fit changes nothing, and answers with the campaign's seq."""
    seed = sold(redis)
    redis.seed(seed)
    assert give_back(redis, **changes) == [code, 4]
    assert redis.state() == dict(sorted(seed.items()))


def test_missing(redis: Client) -> None:
    """A campaign whose key is missing gets no key by a return."""
    seed = sold(redis)
    del seed[CAMPAIGN]
    redis.seed(seed)
    assert give_back(redis) == [MISSING, 0]
    assert redis.state() == dict(sorted(seed.items()))


@pytest.mark.parametrize("waits,code", [(9, BUSY), (10, RETURNED)])
def test_the_outbox_is_bounded(redis: Client, waits: int, code: int) -> None:
    """It takes a return only where it would take a grant; what was returned before is told."""
    redis.seed(sold(redis, watermark=-5, outbox_max=waits))
    assert give_back(redis)[0] == code
    assert give_back(redis, serial=3)[0] == ALREADY


def test_full_memory_refuses_before_anything_is_written(redis: Client) -> None:
    """The first write is the one that is refused; what only reads is answered still."""
    seed = sold(redis)
    redis.seed(seed)
    redis.call("CONFIG", "SET", "maxmemory", 1)
    try:
        with pytest.raises(hiredis.ReplyError, match="OOM"):
            give_back(redis)
        assert give_back(redis, serial=3) == [ALREADY, 4]
        assert redis.state() == dict(sorted(seed.items()))
    finally:
        redis.call("CONFIG", "SET", "maxmemory", "256mb")
