"""Redis' time as this process carries it on."""

from dataclasses import dataclass

import pytest

from gateway.redis_clock import SKEW_MS_MAX, RedisClock


@dataclass
class Hands:
    """A clock whose hands a test moves."""

    wall_ms: int = 1_000_000
    running_ms: int = 50

    def now_ms(self) -> int:
        return self.wall_ms

    def monotonic_ms(self) -> int:
        return self.running_ms


def test_before_redis_was_heard_it_is_the_machines_own_time() -> None:
    """Without a reply there is no skew to judge, and the wall clock serves."""
    clock = RedisClock(Hands())
    assert (clock.known, clock.now_ms(), clock.skew_ms(), clock.trusted) == (
        False, 1_000_000, 0, True,
    )  # fmt: skip


def test_it_goes_on_by_the_monotonic_clock() -> None:
    """Between replies Redis' time runs on, whatever happens to the wall clock."""
    hands = Hands()
    clock = RedisClock(hands)
    clock.observe(1_000_400)
    hands.running_ms += 250
    hands.wall_ms -= 100_000
    assert clock.known
    assert clock.now_ms() == 1_000_650


def test_the_last_reply_counts() -> None:
    """A later reply corrects the time, backwards too."""
    clock = RedisClock(Hands())
    clock.observe(1_009_000)
    clock.observe(1_000_100)
    assert clock.now_ms() == 1_000_100


@pytest.mark.parametrize("skew_ms", [-SKEW_MS_MAX, 0, SKEW_MS_MAX])
def test_up_to_five_seconds_are_trusted(skew_ms: int) -> None:
    """5 s apart is still trusted, one more ms is not."""
    hands = Hands()
    clock = RedisClock(hands)
    clock.observe(hands.wall_ms - skew_ms)
    assert (clock.skew_ms(), clock.trusted) == (skew_ms, True)
    clock.observe(hands.wall_ms - skew_ms - (1 if skew_ms >= 0 else -1) * (SKEW_MS_MAX + 1))
    assert not clock.trusted
