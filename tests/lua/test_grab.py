"""grab.lua: seed a state, call, compare the reply and the whole state."""

import hiredis
import pytest

from flashgrab.outcomes import Verdict
from flashgrab.scripts import GRAB
from tests.lua.seeds import (
    CAMPAIGN,
    DEVICES,
    HOLDERS,
    HOUR_MS,
    OUTBOX,
    R1,
    R2,
    R3,
    Reply,
    Request,
    campaign,
    changed,
    entry,
    grab,
    open_now,
    round_,
)
from tests.lua.server import Client, State

OFFLINE, ENDED, PAUSED, NOT_STARTED, BUSY, USER_LIMIT, DEVICE_LIMIT, SOLD_OUT = range(-1, -9, -1)
A, B, C = (("a", "", "ka"), ("b", "", "kb"), ("c", "", "kc"))


def refused(redis: Client, seed: State, *requests: Request, **known: object) -> Reply:
    """The reply of a call that must change nothing."""
    redis.seed(seed)
    reply = grab(redis, *requests, **known)  # type: ignore[arg-type]
    assert redis.state() == dict(sorted(seed.items()))
    return reply


# -- grants ---------------------------------------------------------------------------------------


def test_grant_writes_fact_holder_and_counters(redis: Client) -> None:
    """One grant: the next serial and seq, the fact in the outbox, the holder, the counters."""
    seed = open_now(redis, quota=10, granted=4, serial=7, seq=9, watermark=9, generation=3)
    redis.seed(seed)
    reply = grab(redis, ("u@1", "dev", "key~1"), floor=9)
    assert reply == Reply(Verdict.DECIDED, 1, 3, 10, reply.now_ms, 1, 5, [8])
    assert abs(reply.now_ms - redis.now_ms()) < 5000
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 8, "seq": 10},
            R1: {"left": 5, "granted": 5},
            HOLDERS: {"u@1": "8,10,1,g,key~1;"},
            OUTBOX: [entry(10, 10, "g,8,1,u@1,dev,key~1", reply.now_ms)],
        },
    )


def test_batch_is_one_outbox_entry_with_dense_seqs(redis: Client) -> None:
    """The grants of one call share one entry whose id is the last seq; refusals leave no gap."""
    seed = open_now(redis, quota=3)
    redis.seed(seed)
    reply = grab(redis, A, A, B, C, ("d", "", "kd"))
    assert reply.results == [1, "R1,1,1,g,ka;", 2, 3, SOLD_OUT]
    assert (reply.seq, reply.left) == (3, 0)
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 3, "seq": 3},
            R1: {"left": 0, "granted": 3},
            HOLDERS: {"a": "1,1,1,g,ka;", "b": "2,2,1,g,kb;", "c": "3,3,1,g,kc;"},
            OUTBOX: [entry(1, 3, "g,1,1,a,,ka;g,2,1,b,,kb;g,3,1,c,,kc", reply.now_ms)],
        },
    )


def test_largest_batch_is_granted_whole(redis: Client) -> None:
    """1,000 requests with 64-byte ids and a device limit: all granted, serials and seqs dense."""
    seed = open_now(redis, quota=1000, per_device=1)
    redis.seed(seed)
    requests = [(f"{n:064}", f"d{n:063}", f"k{n:063}") for n in range(1, 1001)]
    reply = grab(redis, *requests)
    assert reply.results == list(range(1, 1001))
    facts = ";".join(f"g,{n},1,{u},{d},{k}" for n, (u, d, k) in enumerate(requests, 1))
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 1000, "seq": 1000},
            R1: {"left": 0, "granted": 1000},
            HOLDERS: {u: f"{n},{n},1,g,{k};" for n, (u, _, k) in enumerate(requests, 1)},
            DEVICES: {d: 1 for _, d, _ in requests},
            OUTBOX: [entry(1, 1000, facts, reply.now_ms)],
        },
    )
    again = grab(redis, *requests, floor=1000)
    assert again.results == [f"R{n},{n},1,g,{k};" for n, (_, _, k) in enumerate(requests, 1)]


def test_numbers_stay_whole_beyond_32_bits(redis: Client) -> None:
    """Serial and seq of eleven digits are written and returned without an exponent or a cut."""
    seed = open_now(redis, serial=98_765_432_109, seq=98_765_432_109, watermark=98_765_432_109)
    redis.seed(seed)
    reply = grab(redis, A, floor=98_765_432_109)
    assert reply.results == [98_765_432_110]
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 98_765_432_110, "seq": 98_765_432_110},
            R1: {"left": 9, "granted": 1},
            HOLDERS: {"a": "98765432110,98765432110,1,g,ka;"},
            OUTBOX: [entry(98_765_432_110, 98_765_432_110, "g,98765432110,1,a,,ka", reply.now_ms)],
        },
    )


def test_ids_are_compared_whole(redis: Client) -> None:
    """A request id that is the end, the start or a number of a stored entry is another one."""
    seed = open_now(redis, per_user=100)
    seed[HOLDERS] = {"a": "1,1,1,g,xkey-1;"}
    seed[CAMPAIGN] = campaign(per_user=100, serial=1, seq=1)
    seed[R1] = seed[R1] | {"left": "9", "granted": "1"}  # type: ignore[operator]
    redis.seed(seed)
    others = ("key-1", "xkey-", "1", "g", "-1", "key.1", "%w*", ".*")
    reply = grab(redis, *(("a", "", other) for other in others))
    assert reply.results == [2, 3, 4, 5, 6, 7, 8, 9]
    again = grab(redis, *(("a", "", other) for other in others), ("a", "", "xkey-1"))
    assert again.results == [
        *(f"R{n},{n},1,g,{other};" for n, other in enumerate(others, 2)),
        "R1,1,1,g,xkey-1;",
    ]


# -- one test a refusal of a request --------------------------------------------------------------


def test_offline(redis: Client) -> None:
    """A closed campaign refuses."""
    assert refused(redis, open_now(redis, status="OFFLINE"), A).results == [OFFLINE]


def test_ended(redis: Client) -> None:
    """After the last round a campaign refuses; no round is current."""
    now_ms = redis.now_ms()
    seed: State = {CAMPAIGN: campaign(), R1: round_(now_ms - 2, now_ms - 1)}
    reply = refused(redis, seed, A)
    assert (reply.results, reply.round, reply.left) == ([ENDED], 0, -1)


def test_paused(redis: Client) -> None:
    """A paused campaign refuses, and says what is left."""
    reply = refused(redis, open_now(redis, status="PAUSED"), A)
    assert (reply.results, reply.round, reply.left) == ([PAUSED], 1, 10)


def test_not_started(redis: Client) -> None:
    """Before its first round a campaign refuses."""
    now_ms = redis.now_ms()
    seed: State = {CAMPAIGN: campaign(), R1: round_(now_ms + HOUR_MS, now_ms + 2 * HOUR_MS)}
    reply = refused(redis, seed, A)
    assert (reply.results, reply.round, reply.left) == ([NOT_STARTED], 0, -1)


def test_not_started_between_rounds(redis: Client) -> None:
    """Between two rounds it is NOT_STARTED, by the key of either round."""
    now_ms = redis.now_ms()
    seed: State = {
        CAMPAIGN: campaign(rounds=2),
        R1: round_(now_ms - 2 * HOUR_MS, now_ms - HOUR_MS),
        R2: round_(now_ms + HOUR_MS, now_ms + 2 * HOUR_MS),
    }
    for number in (1, 2):
        reply = refused(redis, seed, A, number=number)
        assert (reply.results, reply.round, reply.left) == ([NOT_STARTED], 0, -1)


def test_busy_at_the_bound_of_the_outbox_while_replays_go_on(redis: Client) -> None:
    """Facts waiting for the ledger have a bound; past it only known request ids are answered."""
    seed = open_now(redis, outbox_max=2, serial=2, seq=5, watermark=4)
    redis.seed(seed)
    reply = grab(redis, A, B, A, C)
    assert reply.results == [3, BUSY, "R3,6,1,g,ka;", BUSY]
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 3, "seq": 6},
            R1: {"left": 9, "granted": 1},
            HOLDERS: {"a": "3,6,1,g,ka;"},
            OUTBOX: [entry(6, 6, "g,3,1,a,,ka", reply.now_ms)],
        },
    )
    redis.call("HSET", CAMPAIGN, "watermark", 5)
    assert grab(redis, B, C).results == [4, BUSY]


def test_user_limit_names_the_grants(redis: Client) -> None:
    """A user at the limit is refused with all his entries, those of this call among them."""
    seed = open_now(redis)
    redis.seed(seed)
    assert grab(redis, A, ("a", "", "other")).results == [1, "U1,1,1,g,ka;"]
    before = redis.state()
    assert grab(redis, ("a", "", "third")).results == ["U1,1,1,g,ka;"]
    assert redis.state() == before


def test_user_limit_of_three(redis: Client) -> None:
    """per_user 3: three request ids get three coupons, a fourth none, each of the three replays."""
    redis.seed(open_now(redis, per_user=3))
    ids = [("a", "", f"k{n}") for n in (1, 2, 3, 4)]
    held = ["1,1,1,g,k1;", "2,2,1,g,k2;", "3,3,1,g,k3;"]
    assert grab(redis, *ids).results == [1, 2, 3, "U" + "".join(held)]
    before = redis.state()
    assert grab(redis, *ids).results == [*(f"R{e}" for e in held), "U" + "".join(held)]
    assert redis.state() == before


def test_returned_grants_do_not_count(redis: Client) -> None:
    """An entry marked returned frees the user's limit, and its request id still replays."""
    seed = open_now(redis, serial=1, seq=2, watermark=2)
    seed[HOLDERS] = {"a": "1,1,1,r,ka;"}
    redis.seed(seed)
    reply = grab(redis, A, ("a", "", "new"), ("a", "", "newer"))
    assert reply.results == ["R1,1,1,r,ka;", 2, "U1,1,1,r,ka;2,3,1,g,new;"]
    state = redis.state()
    assert state[HOLDERS] == {"a": "1,1,1,r,ka;2,3,1,g,new;"}


def test_device_limit(redis: Client) -> None:
    """A device at its limit is refused whoever asks, also inside one call; others go on."""
    seed = open_now(redis, per_device=2, serial=1, seq=1, watermark=1)
    seed[DEVICES] = {"d1": "1"}
    redis.seed(seed)
    reply = grab(redis, ("a", "d1", "k"), ("b", "d1", "k"), ("c", "d2", "k"))
    assert reply.results == [2, DEVICE_LIMIT, 3]
    assert redis.state() == changed(
        seed,
        {
            CAMPAIGN: {"serial": 3, "seq": 3},
            R1: {"left": 8, "granted": 2},
            DEVICES: {"d1": 2, "d2": 1},
            HOLDERS: {"a": "2,2,1,g,k;", "c": "3,3,1,g,k;"},
            OUTBOX: [entry(2, 3, "g,2,1,a,d1,k;g,3,1,c,d2,k", reply.now_ms)],
        },
    )


def test_sold_out(redis: Client) -> None:
    """A round with nothing left refuses."""
    reply = refused(redis, open_now(redis, quota=4, granted=4), A)
    assert (reply.results, reply.round, reply.left) == ([SOLD_OUT], 1, 0)


# -- precedence -----------------------------------------------------------------------------------

ORDER = [
    "REPLAY", "OFFLINE", "ENDED", "PAUSED", "NOT_STARTED", "BUSY", "USER_LIMIT", "DEVICE_LIMIT",
    "SOLD_OUT",
]  # fmt: skip
"""Contract §2, as far as the script decides."""
HELD = "1,1,1,g,old;"
RESULTS: dict[str, int | str] = {
    "REPLAY": "R1,1,1,g,old;", "OFFLINE": OFFLINE, "ENDED": ENDED, "PAUSED": PAUSED,
    "NOT_STARTED": NOT_STARTED, "BUSY": BUSY, "USER_LIMIT": "U" + HELD,
    "DEVICE_LIMIT": DEVICE_LIMIT, "SOLD_OUT": SOLD_OUT,
}  # fmt: skip
IMPOSSIBLE = {("OFFLINE", "PAUSED"), ("ENDED", "NOT_STARTED")}
PAIRS = [
    (first, second)
    for i, first in enumerate(ORDER)
    for second in ORDER[i + 1 :]
    if (first, second) not in IMPOSSIBLE
]


@pytest.mark.parametrize("first,second", PAIRS)
def test_precedence(redis: Client, first: str, second: str) -> None:
    """Where two outcomes hold at once, the earlier one of the contract is the answer."""
    now_ms = redis.now_ms()
    both = {first, second}
    hours = (-2, -1) if "ENDED" in both else (1, 2) if "NOT_STARTED" in both else (-1, 1)
    status = "OFFLINE" if "OFFLINE" in both else "PAUSED" if "PAUSED" in both else "PUBLISHED"
    seed: State = {
        CAMPAIGN: campaign(
            status=status,
            per_user=1 if "USER_LIMIT" in both else 5,
            per_device=1 if "DEVICE_LIMIT" in both else 5,
            outbox_max=1 if "BUSY" in both else 1000,
            serial=1, seq=1,
        ),
        R1: round_(
            now_ms + hours[0] * HOUR_MS, now_ms + hours[1] * HOUR_MS,
            1 if "SOLD_OUT" in both else 10, 1,
        ),
        HOLDERS: {"a": HELD},
        DEVICES: {"d": "1"},
        OUTBOX: [entry(1, 1, "g,1,1,a,d,old")],
    }  # fmt: skip
    request = ("a", "d", "old" if "REPLAY" in both else "new")
    assert refused(redis, seed, request).results == [RESULTS[first]]


@pytest.mark.parametrize("status", ["PUBLISHED", "PAUSED", "OFFLINE"])
@pytest.mark.parametrize("hours", [(-2, -1), (-1, 1), (1, 2)])
def test_replay_whatever_has_become_of_the_campaign(
    redis: Client, status: str, hours: tuple[int, int]
) -> None:
    """A winner who asks again learns that he won: paused, closed, ended, sold out, outbox full."""
    now_ms = redis.now_ms()
    seed: State = {
        CAMPAIGN: campaign(status=status, serial=1, seq=1, outbox_max=1),
        R1: round_(now_ms + hours[0] * HOUR_MS, now_ms + hours[1] * HOUR_MS, 1, 1),
        HOLDERS: {"a": "1,1,1,g,ka;"},
        OUTBOX: [entry(1, 1, "g,1,1,a,,ka")],
    }
    assert refused(redis, seed, A).results == ["R1,1,1,g,ka;"]


# -- one test a verdict on a whole call -----------------------------------------------------------


def test_missing_campaign(redis: Client) -> None:
    """A campaign whose key is missing grants nothing, whatever else is there."""
    seed = open_now(redis)
    del seed[CAMPAIGN]
    reply = refused(redis, seed, A)
    assert reply == Reply(Verdict.MISSING, 0, 0, 0, reply.now_ms, 0, -1, [])


@pytest.mark.parametrize("gone", [R1, R2])
def test_missing_round(redis: Client, gone: str) -> None:
    """A round whose key is missing is no round with stock 0: the whole call is refused."""
    now_ms = redis.now_ms()
    seed: State = {
        CAMPAIGN: campaign(rounds=2, epoch=1, generation=4, seq=2, serial=2),
        R1: round_(now_ms - 2 * HOUR_MS, now_ms - HOUR_MS),
        R2: round_(now_ms - HOUR_MS, now_ms + HOUR_MS),
    }
    redis.seed(seed)
    touched = [CAMPAIGN, HOLDERS, DEVICES, OUTBOX, R1, R2]
    redis.call("DEL", gone)
    before = redis.state()
    args = [1, 1, "run-1", 0, 1, 0, now_ms + HOUR_MS, *A]
    reply = redis.script(GRAB, touched, args)
    assert reply[:1] == [Verdict.MISSING.value]
    assert reply[5:] == [0, -1]
    assert redis.state() == before


@pytest.mark.parametrize(
    "known,verdict",
    [
        ({"epoch": 2}, Verdict.EPOCH),
        ({"run": "run-2"}, Verdict.RUN),
        ({"floor": 4}, Verdict.FLOOR),
        ({"schema": "2"}, Verdict.SCHEMA),
    ],
)
def test_caller_that_knows_another_state(
    redis: Client, known: dict[str, object], verdict: Verdict
) -> None:
    """Another epoch, run, floor or schema than the campaign's: refused whole, replays as well."""
    seed = open_now(redis, serial=3, seq=3, generation=7)
    seed[HOLDERS] = {"a": "1,1,1,g,ka;"}
    reply = refused(redis, seed, A, **known)
    assert reply == Reply(verdict, 1, 7, 3, reply.now_ms, 0, -1, [])


def test_verdicts_have_an_order(redis: Client) -> None:
    """Epoch before run before floor before schema, so that the reason named is the root one."""
    seed = open_now(redis)
    wrong: dict[str, object] = {"epoch": 2, "run": "x", "floor": 9, "schema": "9"}
    for name in ("EPOCH", "RUN", "FLOOR", "SCHEMA"):
        assert refused(redis, seed, A, **wrong).verdict is Verdict[name]
        del wrong[name.lower()]
    assert grab(redis, A).results == [1]


def test_floor_at_the_seq_is_enough(redis: Client) -> None:
    """A caller that has seen exactly the last seq is served."""
    redis.seed(open_now(redis, serial=3, seq=3))
    assert grab(redis, A, floor=3).results == [4]


def three_rounds(redis: Client, current: int) -> State:
    """Rounds of an hour each, the current one half over."""
    now_ms = redis.now_ms()
    starts = [now_ms - HOUR_MS // 2 + (n - current) * HOUR_MS for n in (1, 2, 3)]
    rows = [round_(start, start + HOUR_MS) for start in starts]
    return {CAMPAIGN: campaign(rounds=3), R1: rows[0], R2: rows[1], R3: rows[2]}


@pytest.mark.parametrize("current", [1, 2, 3])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_rounds_that_the_caller_takes_for_current(redis: Client, current: int, number: int) -> None:
    """The script takes the current or the next round by its own clock; else it says MOVED."""
    seed = three_rounds(redis, current)
    redis.seed(seed)
    reply = grab(redis, A, number=number)
    if current in (number, number + 1):
        assert (reply.round, reply.left, reply.results) == (current, 9, [1])
        key = (R1, R2, R3)[current - 1]
        assert redis.state() == changed(
            seed,
            {
                CAMPAIGN: {"serial": 1, "seq": 1},
                key: {"left": 9, "granted": 1},
                HOLDERS: {"a": f"1,1,{current},g,ka;"},
                OUTBOX: [entry(1, 1, f"g,1,{current},a,,ka", reply.now_ms)],
            },
        )
    else:
        assert (reply.verdict, reply.round, reply.left) == (Verdict.MOVED, 0, -1)
        assert redis.state() == dict(sorted(seed.items()))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_ended_by_whatever_round_the_caller_names(redis: Client, number: int) -> None:
    """After the last round every round is as good: ENDED, never MOVED for ever."""
    seed = three_rounds(redis, 5)
    assert refused(redis, seed, A, number=number).results == [ENDED]


def test_unsold_quota_stays_in_its_round(redis: Client) -> None:
    """A round sold out is not filled up from the round before it."""
    seed = three_rounds(redis, 2)
    seed[R2] = seed[R2] | {"quota": "1", "left": "1"}  # type: ignore[operator]
    redis.seed(seed)
    assert grab(redis, A, B, number=1).results == [1, SOLD_OUT]


# -- edges by Redis' clock ------------------------------------------------------------------------


def test_opening_to_the_millisecond(redis: Client) -> None:
    """Granted at opens_at and not one millisecond before, by the now_ms of the same reply."""
    sides: dict[bool, int] = {}
    for _ in range(2000):
        opens_at = redis.now_ms() + 2
        redis.seed({CAMPAIGN: campaign(), R1: round_(opens_at, opens_at + HOUR_MS)})
        for _ in range(100):
            reply = grab(redis, A)
            opened = reply.now_ms >= opens_at
            assert reply.results == ([1] if opened else [NOT_STARTED])
            sides[opened] = min(sides.get(opened, 99), abs(reply.now_ms - opens_at))
            if opened:
                break
        if sides.get(True) == 0 and sides.get(False) == 1:
            return
    pytest.fail(f"never saw both sides of the edge: {sides}")


def test_closing_to_the_millisecond(redis: Client) -> None:
    """Granted up to the last millisecond before closes_at, ENDED at it."""
    sides: dict[bool, int] = {}
    for _ in range(2000):
        closes_at = redis.now_ms() + 3
        redis.seed({CAMPAIGN: campaign(), R1: round_(closes_at - HOUR_MS, closes_at, 10**6)})
        for n in range(200):
            reply = grab(redis, (f"u{n}", "", "k"))
            closed = reply.now_ms >= closes_at
            assert reply.results == ([ENDED] if closed else [n + 1])
            assert reply.round == (0 if closed else 1)
            sides[closed] = min(sides.get(closed, 99), abs(reply.now_ms - closes_at))
            if closed:
                break
        if sides.get(True) == 0 and sides.get(False) == 1:
            return
    pytest.fail(f"never saw both sides of the edge: {sides}")


def test_rounds_back_to_back_change_in_one_millisecond(redis: Client) -> None:
    """Where one round ends as the next opens, no grab is between them and none in the wrong one."""
    seen: set[int] = set()
    for _ in range(200):
        edge = redis.now_ms() + 3
        redis.seed(
            {
                CAMPAIGN: campaign(rounds=2),
                R1: round_(edge - HOUR_MS, edge, 10**6),
                R2: round_(edge, edge + HOUR_MS, 10**6),
            }
        )
        for n in range(200):
            reply = grab(redis, (f"u{n}", "", "k"))
            expected = 1 if reply.now_ms < edge else 2
            assert (reply.round, reply.results) == (expected, [n + 1])
            seen.add(reply.now_ms - edge)
            if reply.now_ms > edge:
                break
        if {-1, 0} <= seen:
            return
    pytest.fail(f"never saw both sides of the edge: {sorted(seen)}")


# -- a call that fails leaves nothing behind ------------------------------------------------------


def test_full_memory_changes_nothing_while_replays_and_refusals_go_on(redis: Client) -> None:
    """Out of memory is refused at XADD, before any write; a call without a grant is answered."""
    seed = open_now(redis, serial=1, seq=1)
    seed[HOLDERS] = {"a": "1,1,1,g,ka;"}
    redis.seed(seed)
    before = redis.state()
    redis.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(hiredis.ReplyError, match="OOM"):
        grab(redis, A, B)
    assert redis.state() == before
    assert grab(redis, A).results == ["R1,1,1,g,ka;"]
    assert grab(redis, ("a", "", "k2")).results == ["U1,1,1,g,ka;"]
    redis.call("CONFIG", "SET", "maxmemory", "256mb")
    assert grab(redis, B).results == [2]


@pytest.mark.parametrize("key", [HOLDERS, DEVICES, OUTBOX])
def test_key_of_another_type_changes_nothing(redis: Client, key: str) -> None:
    """A damaged key fails while reading, or at XADD: before any write."""
    redis.seed(open_now(redis, per_device=1))
    redis.call("SET", key, "not what it should be")
    before = redis.many([("HGETALL", CAMPAIGN), ("HGETALL", R1), ("GET", key)])
    with pytest.raises(hiredis.ReplyError, match="WRONGTYPE"):
        grab(redis, ("a", "d", "k"))
    assert redis.many([("HGETALL", CAMPAIGN), ("HGETALL", R1), ("GET", key)]) == before
    assert redis.call("DBSIZE") == 3


def test_outbox_that_knows_a_later_seq_changes_nothing(redis: Client) -> None:
    """Counters older than the outbox (a restored copy) grant nothing: XADD refuses the old id."""
    seed = open_now(redis)
    seed[OUTBOX] = [entry(1, 5, "…")]
    redis.seed(seed)
    before = redis.state()
    with pytest.raises(hiredis.ReplyError, match="equal or smaller"):
        grab(redis, A)
    assert redis.state() == before


# -- traces ---------------------------------------------------------------------------------------


def test_a_trace_goes_into_the_entry_and_nowhere_else(redis: Client) -> None:
    """One argument behind the requests is a field of the entry; without a grant there is none."""
    seed = open_now(redis, quota=2)
    trace: tuple[str, ...] = ("a,ka,00-1-2-01",)
    redis.seed(seed)
    reply = grab(redis, A, B, trace)  # type: ignore[arg-type]
    assert reply.results == [1, 2]
    entry_id, fields = entry(1, 2, "g,1,1,a,,ka;g,2,1,b,,kb", reply.now_ms)
    assert redis.state()[OUTBOX] == [(entry_id, fields | {"trace": trace[0]})]
    assert grab(redis, C, trace).results == [SOLD_OUT]  # type: ignore[arg-type]
    assert len(redis.state()[OUTBOX]) == 1
