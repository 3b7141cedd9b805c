"""lease.lua: seed, call, compare the whole state."""

from flashgrab import keys
from flashgrab.scripts import LEASE
from tests.lua.server import Client, State

HELD, TAKEN = range(2)
LEASE_MS = 60_000


def lease(redis: Client, holder: str, epoch: int = 0, lease_ms: int = LEASE_MS) -> list[int]:
    found: list[int] = redis.script(LEASE, [keys.RELAY], [holder, epoch, lease_ms])
    return found


def held_by(redis: Client) -> tuple[str, int, int]:
    """Holder, epoch, and how long from now (ms)."""
    row = redis.state()[keys.RELAY]
    assert isinstance(row, dict)
    assert set(row) == {"holder", "epoch", "until_ms"}
    return row["holder"], int(row["epoch"]), int(row["until_ms"]) - redis.now_ms()


def seed(redis: Client, holder: str, epoch: int, left_ms: int) -> State:
    until_ms = str(redis.now_ms() + left_ms)
    state: State = {keys.RELAY: {"holder": holder, "epoch": str(epoch), "until_ms": until_ms}}
    redis.seed(state)
    return state


def test_the_first_one_takes_it(redis: Client) -> None:
    """Where nobody leads the first who asks does, at epoch 1."""
    assert lease(redis, "a") == [HELD, 1, LEASE_MS]
    holder, epoch, left_ms = held_by(redis)
    assert (holder, epoch) == ("a", 1)
    assert 0 < left_ms <= LEASE_MS


def test_the_holder_keeps_it(redis: Client) -> None:
    """The epoch stays while the same one asks, also when its time was over and nobody came."""
    for left_ms in (10, -5000):
        seed(redis, "a", 7, left_ms)
        assert lease(redis, "a", 7) == [HELD, 7, LEASE_MS]
        assert held_by(redis)[:2] == ("a", 7)
        assert held_by(redis)[2] > LEASE_MS / 2


def test_another_one_waits(redis: Client) -> None:
    """While it is held nothing changes, and the other is told how long it may take."""
    state = seed(redis, "a", 7, 30_000)
    code, epoch, left_ms = lease(redis, "b")
    assert (code, epoch) == (TAKEN, 7)
    assert 0 < left_ms <= 30_000
    assert redis.state() == state


def test_another_one_takes_what_is_over(redis: Client) -> None:
    """With the next epoch."""
    seed(redis, "a", 7, -1)
    assert lease(redis, "b") == [HELD, 8, LEASE_MS]
    assert held_by(redis)[:2] == ("b", 8)


def test_a_successor_of_the_same_name_does_not_wait(redis: Client) -> None:
    """It leads at once, with the next epoch; the process before it, if it lives, keeps nothing."""
    seed(redis, "a", 7, 30_000)
    assert lease(redis, "a") == [HELD, 8, LEASE_MS]
    assert lease(redis, "a", 7)[:2] == [TAKEN, 8]
    assert lease(redis, "a", 7, 0)[:2] == [TAKEN, 8]
    assert held_by(redis)[:2] == ("a", 8)


def test_an_old_epoch_keeps_nothing(redis: Client) -> None:
    """Who slept through another's term is refused, even after that one's time; so is its giving up,
    and an epoch of before in the same process."""
    for left_ms in (30_000, -1):
        state = seed(redis, "b", 8, left_ms)
        for holder, epoch, lease_ms in (("a", 7, LEASE_MS), ("a", 7, 0), ("b", 7, LEASE_MS)):
            assert lease(redis, holder, epoch, lease_ms)[:2] == [TAKEN, 8]
        assert redis.state() == state


def test_who_gives_it_up_lets_the_next_one_in(redis: Client) -> None:
    """At once."""
    assert lease(redis, "a") == [HELD, 1, LEASE_MS]
    assert lease(redis, "a", 1, 0) == [HELD, 1, 0]
    assert lease(redis, "b") == [HELD, 2, LEASE_MS]


def test_lost_data_begin_anew(redis: Client) -> None:
    """A holder whose lease is gone with the data is refused once, and may take it like anybody."""
    assert lease(redis, "a", 7) == [TAKEN, 0, 0]
    assert redis.state() == {}
    assert lease(redis, "a") == [HELD, 1, LEASE_MS]


def test_a_clock_that_was_set_back_locks_nobody_out(redis: Client) -> None:
    """A lease that ends later than any could is over."""
    seed(redis, "a", 7, LEASE_MS + 3_600_000)
    assert lease(redis, "b") == [HELD, 8, LEASE_MS]


def test_full_memory_does_not_stop_the_relay(redis: Client) -> None:
    """Relaying is what lets the outbox be trimmed."""
    seed(redis, "a", 7, 1000)
    redis.call("CONFIG", "SET", "maxmemory", 1)
    assert lease(redis, "a", 7) == [HELD, 7, LEASE_MS]
