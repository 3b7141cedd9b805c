"""limit.lua: exact against a log that keeps every request, in whole numbers."""

import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flashgrab.scripts import LIMIT
from tests.lua.server import Client

Rate = tuple[int, int]
"""Burst, window in µs."""


def limit(
    redis: Client, rates: Sequence[Rate], requests: Sequence[Sequence[str]], of: str = ""
) -> tuple[int, list[Any]]:
    """Each request on the keys of its slots ("" for none); the policy of a key is its slot."""
    names: dict[str, str] = {}
    for request in requests:
        for slot, name in enumerate(request, 1):
            if name:
                names.setdefault(name, str(slot))
    places = {name: place for place, name in enumerate(names, 1)}
    policies = "".join(f"{burst},{window};" for burst, window in rates)
    asked = [places.get(name, 0) for request in requests for name in request]
    counts = [asked.count(place) for place in places.values()]
    args = [policies, "".join(names.values()), len(rates), packed(counts), packed(asked)]
    code, now_us, *results = redis.script(LIMIT, list(names), args)
    assert code == 0
    return now_us, results or [0] * len(requests)


def packed(numbers: Sequence[int]) -> bytes:
    return struct.pack(f">{len(numbers)}H", *numbers)


class Log:
    """The oracle: keeps the moment of every request that was counted, and nothing else."""

    def __init__(self, rate: Rate) -> None:
        self.burst, self.window = rate
        self.counted: list[int] = []

    def fits(self, now: int) -> bool:
        """Whether one more now keeps every stretch at burst + rate x time."""
        held = self.counted
        return all(
            len(held) - first + 1 <= self.burst + Fraction(self.burst * (now - since), self.window)
            for first, since in enumerate(held)
        )


RATES: st.SearchStrategy[Rate] = st.tuples(
    st.integers(1, 40), st.sampled_from([300, 1000, 2500, 7001, 50_000, 1_000_000])
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rates=st.lists(RATES, min_size=1, max_size=3),
    calls=st.lists(
        st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=3), min_size=1, max_size=12),
        min_size=1,
        max_size=14,
    ),
)
def test_it_counts_as_a_log_would(
    redis: Client, rates: list[Rate], calls: list[list[list[str]]]
) -> None:
    """Real time passes between the calls; each request is judged as by the log of its limits: none
    too many, none refused that fits, and refused it is counted nowhere."""
    redis.call("FLUSHALL")
    logs: dict[str, Log] = {}
    for call in calls:
        requests = [
            [f"{slot}{letter}" for slot, letter in enumerate(letters[: len(rates)])]
            for letters in call
        ]
        now, results = limit(redis, rates, requests)
        for request, result in zip(requests, results, strict=True):
            held = [
                logs.setdefault(name, Log(rate)) for name, rate in zip(request, rates, strict=True)
            ]
            fits = all(log.fits(now) for log in held)
            assert (result == 0 or result[0] >= 0) == fits
            if fits:
                for log in held:
                    log.counted.append(now)


@pytest.mark.parametrize("rate", [(5, 10_000_000), (7, 10_000_000), (9_999_999, 1_000_000)])
def test_what_is_left_and_how_long(redis: Client, rate: Rate) -> None:
    """Two left or more: nothing is said. Then one, none, and the refusal with its wait."""
    burst, window = rate
    _, results = limit(redis, [rate], [["k"]] * min(burst + 1, 12))
    if burst > 12:
        assert results == [0] * 12
        return
    step = -(-window // burst)
    assert results[: burst - 2] == [0] * (burst - 2)
    assert results[burst - 2 :] == [[1, 1, step], [0, 1, step], [-1, 1, step]]


def test_all_limits_are_looked_at_first(redis: Client) -> None:
    """One of three refuses: none has counted, and the one that takes longest is named."""
    rates = [(5, 10_000_000), (1, 10_000_000), (1, 60_000_000)]
    limit(redis, rates, [["", "b", "c"]])
    _, results = limit(redis, rates, [["a", "b", "c"], ["a", "", ""]])
    left, slot, wait_us = results[0]
    assert (left, slot) == (-1, 3)
    assert 55_000_000 < wait_us <= 60_000_000
    assert results[1] == 0
    assert sorted(redis.call("KEYS", "*")) == ["a", "b", "c"]
    _, results = limit(redis, rates, [["a", "", ""]] * 5)
    assert [result and result[0] for result in results] == [0, 0, 1, 0, -1]


def test_what_is_over_is_forgotten(redis: Client) -> None:
    """Each key expires when it says nothing more; none stays."""
    limit(redis, [(2, 10_000_000)], [["a"], ["a"], ["b"]])
    assert 9000 < redis.call("PTTL", "a") <= 10_002
    assert 4000 < redis.call("PTTL", "b") <= 5_002


def test_a_clock_that_was_set_back_locks_nobody_out(redis: Client) -> None:
    """A moment further ahead than can be is cut to the furthest that can."""
    redis.call("SET", "a", redis.now_ms() * 1000 + 3_600_000_000)
    _, (result,) = limit(redis, [(2, 10_000_000)], [["a"]])
    assert result[:2] == [-1, 1]
    assert result[2] == 5_000_000


def test_a_thousand_requests_in_one_call(redis: Client) -> None:
    """With two thousand keys, and one that all of them share."""
    rates = [(5, 10_000_000), (5, 10_000_000), (600, 60_000_000)]
    requests = [[f"u{n}", f"d{n}", "all"] for n in range(999)]
    _, results = limit(redis, rates, requests)
    assert [r if r == 0 else r[0] for r in results] == [0] * 598 + [1, 0] + [-1] * 399
    assert redis.call("DBSIZE") == 600 * 2 + 1
