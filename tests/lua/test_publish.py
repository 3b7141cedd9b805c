"""publish.lua: seed, call, compare the whole state."""

import hiredis
import pytest

from flashgrab.scripts import PUBLISH
from tests.lua.seeds import CAMPAIGN, HOLDERS, R1, R2, changed, open_now
from tests.lua.server import Client

ARGS = [1, 1, "run-1", 3, "op-7", '{"name":"é"}', 2, 4, 500]
ROUNDS = [1000, 2000, 10, 3000, 4000, 20]


def test_created(redis: Client) -> None:
    """A campaign's key and its rounds' keys, each round with left as its quota."""
    assert redis.script(PUBLISH, [CAMPAIGN, R1, R2], ARGS + ROUNDS) == [0]
    assert redis.state() == {
        CAMPAIGN: {
            "schema": "1", "epoch": "1", "run": "run-1", "generation": "1", "version": "3",
            "status": "PUBLISHED", "operation": "op-7", "definition": '{"name":"é"}',
            "per_user": "2", "per_device": "4", "outbox_max": "500", "rounds": "2",
            "serial": "0", "seq": "0", "watermark": "0", "holes": "",
        },
        R1: {
            "opens_at": "1000", "closes_at": "2000", "quota": "10", "left": "10", "granted": "0",
            "returned": "0",
        },
        R2: {
            "opens_at": "3000", "closes_at": "4000", "quota": "20", "left": "20", "granted": "0",
            "returned": "0",
        },
    }  # fmt: skip


def test_exists(redis: Client) -> None:
    """Publishing again changes nothing, not even with another definition."""
    seed = changed(open_now(redis, seq=5, serial=5), {HOLDERS: {"a": "1,1,1,g,k;"}})
    redis.seed(seed)
    assert redis.script(PUBLISH, [CAMPAIGN, R1, R2], ARGS + ROUNDS) == [1]
    assert redis.state() == seed


@pytest.mark.parametrize("kept", [R1, R2])
def test_exists_in_part(redis: Client, kept: str) -> None:
    """Where the campaign's key is lost and a round's is not, that is damage: never overwritten."""
    seed = {kept: open_now(redis)[R1]}
    redis.seed(seed)
    assert redis.script(PUBLISH, [CAMPAIGN, R1, R2], ARGS + ROUNDS) == [1]
    assert redis.state() == seed


def test_most_rounds(redis: Client) -> None:
    """400 rounds, as many as a definition may have, are written in one call."""
    touched = [CAMPAIGN, *(f"{CAMPAIGN}:r:{n}" for n in range(1, 401))]
    times = [x for n in range(400) for x in (n * 10, n * 10 + 5, n + 1)]
    assert redis.script(PUBLISH, touched, ARGS + times) == [0]
    assert redis.call("DBSIZE") == 401
    assert redis.call("HGET", touched[400], "left") == "400"


def test_full_memory_changes_nothing(redis: Client) -> None:
    """Out of memory is refused before the first write."""
    redis.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(hiredis.ReplyError, match="OOM"):
        redis.script(PUBLISH, [CAMPAIGN, R1, R2], ARGS + ROUNDS)
    assert redis.state() == {}
