"""books.lua: seed, call, compare the reply; it never writes."""

import pytest

from flashgrab.scripts import BOOKS
from tests.lua.seeds import CAMPAIGN, OUTBOX, R1, R2, campaign, entry, grab, open_now, round_
from tests.lua.server import Client, State


def books(redis: Client, watermark: int, entries_max: int = 100) -> list[object]:
    before = redis.state()
    reply: list[object] = redis.script(BOOKS, [CAMPAIGN, OUTBOX, R1, R2], [watermark, entries_max])
    assert redis.state() == before
    return reply


def flat(first: int, last: int) -> list[object]:
    return [f"{last}-0", ["first", str(first), "epoch", "1", "at_ms", "1", "facts", "x"]]


@pytest.fixture
def seed() -> State:
    return {
        CAMPAIGN: campaign(epoch=3, seq=8, serial=6, watermark=2, rounds=2),
        R1: round_(1, 2, quota=10, granted=4) | {"left": "8", "returned": "2"},
        R2: round_(3, 4, quota=20),
        OUTBOX: [entry(1, 3, "x"), entry(4, 4, "x"), entry(5, 8, "x")],
    }


def test_counters_and_entries(redis: Client, seed: State) -> None:
    """Counters, rounds and every entry that holds a fact above the watermark."""
    redis.seed(seed)
    rounds = [[10, 8, 4, 2], [20, 20, 0, 0]]
    entries = [flat(1, 3), flat(4, 4), flat(5, 8)]
    for watermark, skipped in [(0, 0), (2, 0), (3, 1), (4, 2), (7, 2), (8, 3)]:
        assert books(redis, watermark) == [1, 3, 8, 6, 2, rounds, entries[skipped:]]
    assert books(redis, 0, 2)[6] == entries[:2]


def test_missing(redis: Client, seed: State) -> None:
    """A campaign whose key is missing is not found, whatever else is there."""
    del seed[CAMPAIGN]
    redis.seed(seed)
    assert books(redis, 0) == [0, 0, 0, 0, 0, [], []]


def test_missing_round(redis: Client, seed: State) -> None:
    """A round whose key is missing shows as -1, which no sound round has."""
    del seed[R2]
    redis.seed(seed)
    assert books(redis, 8)[5] == [[10, 8, 4, 2], [-1, -1, -1, -1]]


def test_books_balance_with_what_was_granted(redis: Client) -> None:
    """After grants, the counters are those of the entries: quota = left + granted - returned."""
    redis.seed(open_now(redis, quota=5))
    grab(redis, *((f"u{n}", "", "k") for n in range(3)))
    grab(redis, *((f"u{n}", "", "k") for n in range(9)))
    _, _, seq, serial, _, rounds, entries = books(redis, 0)
    assert (seq, serial) == (5, 5)
    assert rounds == [[5, 0, 5, 0], [-1, -1, -1, -1]]
    assert isinstance(entries, list)
    assert [row[0] for row in entries] == ["3-0", "5-0"]
    assert sum(row[1][7].count("g,") for row in entries) == 5


def test_full_memory_does_not_stop_the_audit(redis: Client, seed: State) -> None:
    """Reading goes on when memory is full."""
    redis.seed(seed)
    redis.call("CONFIG", "SET", "maxmemory", 1)
    assert books(redis, 8)[0] == 1
