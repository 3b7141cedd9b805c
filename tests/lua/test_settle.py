"""settle.lua: seed, call, compare the whole state."""

import pytest

from flashgrab.scripts import SETTLE
from tests.lua.seeds import CAMPAIGN, OUTBOX, campaign, changed, entry
from tests.lua.server import Client, State

SETTLED, MISSING, EPOCH, AHEAD = range(4)
ENTRIES = [entry(1, 3, "x"), entry(4, 4, "x"), entry(5, 8, "x")]


def eight_facts(**fields: object) -> State:
    return {CAMPAIGN: campaign(seq=8, serial=8, **fields), OUTBOX: list(ENTRIES)}


@pytest.mark.parametrize("watermark,trimmed", [(1, 0), (2, 0), (3, 1), (4, 2), (7, 2), (8, 3)])
def test_settled(redis: Client, watermark: int, trimmed: int) -> None:
    """Entries whose last fact is at or below the watermark go, and no other."""
    seed = eight_facts()
    redis.seed(seed)
    reply = redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, watermark, ""])
    assert reply == [SETTLED, trimmed]
    assert redis.state() == changed(
        seed, {CAMPAIGN: {"watermark": watermark}, OUTBOX: ENTRIES[trimmed:]}
    )


def test_every_entry_of_a_long_outbox(redis: Client) -> None:
    """Trimming is exact (not by whole nodes of the stream): entry by entry over a thousand."""
    entries = [entry(n, n, "x" * 50) for n in range(1, 1001)]
    redis.seed({CAMPAIGN: campaign(seq=1000, serial=1000), OUTBOX: entries})
    for watermark in (1, 2, 99, 100, 101, 555, 999):
        redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, watermark, ""])
        assert redis.state()[OUTBOX] == entries[watermark:]


def test_watermark_never_falls(redis: Client) -> None:
    """A lower or equal watermark trims nothing and is not noted; the holes that it saw are."""
    seed = eight_facts(watermark=5)
    redis.seed(seed)
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 4, ""]) == [SETTLED, 0]
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 5, ""]) == [SETTLED, 0]
    assert redis.state() == seed
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 5, "6-7"]) == [SETTLED, 0]
    assert redis.state() == changed(seed, {CAMPAIGN: {"holes": "6-7"}})
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 5, ""]) == [SETTLED, 0]
    assert redis.state() == seed


def test_missing(redis: Client) -> None:
    """Nothing is trimmed of a campaign whose key is missing, and no key is made."""
    seed = eight_facts()
    del seed[CAMPAIGN]
    redis.seed(seed)
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 8, ""]) == [MISSING, 0]
    assert redis.state() == seed


def test_epoch(redis: Client) -> None:
    """The watermark of another epoch trims nothing."""
    seed = eight_facts()
    redis.seed(seed)
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [2, 8, "1-2"]) == [EPOCH, 0]
    assert redis.state() == seed


def test_ahead(redis: Client) -> None:
    """A watermark above the last seq that this server gave trims nothing."""
    seed = eight_facts()
    redis.seed(seed)
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 9, ""]) == [AHEAD, 0]
    assert redis.state() == seed


def test_full_memory_is_freed(redis: Client) -> None:
    """It runs when memory is full: without it, a full Redis would stay full for ever."""
    redis.seed(eight_facts())
    redis.call("CONFIG", "SET", "maxmemory", 1)
    assert redis.script(SETTLE, [CAMPAIGN, OUTBOX], [1, 4, "5-5"]) == [SETTLED, 2]
    assert redis.state()[OUTBOX] == ENTRIES[2:]
