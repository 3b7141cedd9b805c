"""confirm.lua: seed, call, compare the whole state."""

from flashgrab.outcomes import Verdict
from flashgrab.scripts import CONFIRM
from tests.lua.seeds import CAMPAIGN, HOLDERS, changed, grab, open_now
from tests.lua.server import Client

CONFIRMED, MISSING, EPOCH, BEHIND = range(4)


def test_confirmed(redis: Client) -> None:
    """A server that has every seq that was seen grants again, for its new run_id only."""
    seed = open_now(redis, seq=7, serial=7)
    redis.seed(seed)
    assert grab(redis, ("a", "", "k"), run="run-2").verdict is Verdict.RUN
    assert redis.script(CONFIRM, [CAMPAIGN], [1, 7, "run-2"]) == [CONFIRMED, 7]
    assert redis.state() == changed(seed, {CAMPAIGN: {"run": "run-2"}})
    assert grab(redis, ("a", "", "k"), run="run-1").verdict is Verdict.RUN
    assert grab(redis, ("a", "", "k"), run="run-2").results == [8]


def test_missing(redis: Client) -> None:
    """A campaign whose key is missing is not made by a confirmation."""
    assert redis.script(CONFIRM, [CAMPAIGN], [1, 0, "run-2"]) == [MISSING, 0]
    assert redis.state() == {}


def test_epoch(redis: Client) -> None:
    """A confirmation for another epoch changes nothing."""
    seed = open_now(redis, seq=7, serial=7)
    redis.seed(seed)
    assert redis.script(CONFIRM, [CAMPAIGN], [2, 7, "run-2"]) == [EPOCH, 7]
    assert redis.state() == dict(sorted(seed.items()))


def test_behind(redis: Client) -> None:
    """A server that knows one fact less than was seen stays closed, replays included."""
    seed = changed(open_now(redis, seq=7, serial=7), {HOLDERS: {"a": "1,1,1,g,k;"}})
    redis.seed(seed)
    assert redis.script(CONFIRM, [CAMPAIGN], [1, 8, "run-2"]) == [BEHIND, 7]
    assert redis.state() == seed
    assert grab(redis, ("a", "", "k"), run="run-2").verdict is Verdict.RUN


def test_full_memory_does_not_keep_winners_out(redis: Client) -> None:
    """A confirmation goes on when memory is full, so that replays are answered."""
    seed = changed(open_now(redis, seq=7, serial=7), {HOLDERS: {"a": "1,1,1,g,k;"}})
    redis.seed(seed)
    redis.call("CONFIG", "SET", "maxmemory", 1)
    assert redis.script(CONFIRM, [CAMPAIGN], [1, 7, "run-2"]) == [CONFIRMED, 7]
    assert grab(redis, ("a", "", "k"), run="run-2").results == ["R1,1,1,g,k;"]
