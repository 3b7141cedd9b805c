"""A bounded share of `python -m tests.passes`: no mutated pass is accepted, none raises; and what
would accept one is found."""

import random
from collections import Counter

import pytest

from flashgrab.passes import PassKeys
from tests.passes.__main__ import COST_NS_MAX, cost_ns, world
from tests.passes.mutations import MUTATIONS, attempts
from tests.passes.timing import CHANCE_MAX, compare, leaky
from tests.passes.trial import trial

COUNT = 40_000
FEW = 5000
PAIRS = 600
NOISE = 4
"""A busy machine's share of the bound of a check: CPU time grows with cold caches, too."""


@pytest.mark.parametrize("seed", [618, random.SystemRandom().randrange(10**9)], ids=["618", "new"])
def test_no_mutated_pass_is_accepted(seed: int) -> None:
    """Every kind, thousands of times: 0 accepted, 0 exceptions, and each good pass still good."""
    here = world(seed)
    verdict = trial(here.keys, here, attempts(here, COUNT // 2))
    assert verdict.is_good, f"seed {seed}: {verdict}"
    assert set(verdict.by_kind) == {*MUTATIONS, "too_long"}
    assert min(verdict.by_kind.values()) >= COUNT // 2 // 500


class Short(PassKeys):
    """Looks at the first half of the MAC only."""

    def verify(self, token: bytes, now_ms: int) -> list[bytes] | None:
        body, _, mac = token.rpartition(b"/")
        fields = token.split(b"/")
        key = self._by_start.get(fields[0])
        if key is None or len(fields) != 6:
            return None
        signed = key.copy()
        signed.update(body)
        same = signed.hexdigest().encode()[:16] == mac[:16]
        return fields if same and int(fields[4]) > now_ms else None


class Eternal(PassKeys):
    """Never looks at the time."""

    def verify(self, token: bytes, now_ms: int) -> list[bytes] | None:
        return super().verify(token, -(10**15))


class Lenient(PassKeys):
    """Takes off blanks, as many a reader of headers does."""

    def verify(self, token: bytes, now_ms: int) -> list[bytes] | None:
        return super().verify(token.strip(), now_ms)


class Reading(PassKeys):
    """Reads a field before it knows that it is signed."""

    def verify(self, token: bytes, now_ms: int) -> list[bytes] | None:
        return super().verify(token, now_ms) if int(token.split(b"/")[4]) > now_ms else None


@pytest.mark.parametrize(
    "kind, found",
    [(Short, {"mac_bit"}), (Eternal, {"late"}), (Lenient, {"padded"})],
    ids=["short", "eternal", "lenient"],
)
def test_a_check_that_is_broken_is_found(kind: type[PassKeys], found: set[str]) -> None:
    """Control: a check with a known fault accepts something of the kind that it is open to."""
    here = world(1)
    verdict = trial(kind(here.keys.keys), here, attempts(here, FEW))
    assert found <= {attempt.kind for attempt in verdict.accepted}


def test_a_check_that_raises_is_found() -> None:
    """Control: an exception is counted, and does not end the trial."""
    here = world(1)
    verdict = trial(Reading(here.keys.keys), here, attempts(here, FEW))
    assert len(Counter(attempt.kind for attempt, _ in verdict.raised)) > 5


def test_time_does_not_tell_how_much_of_a_mac_is_right() -> None:
    """First character wrong against last: no difference, as seen by a test that is wrong once in
    a million runs."""
    keys = world(1).keys
    times = compare(keys.verify, keys, PAIRS, random.Random())
    assert times.chance > CHANCE_MAX, str(times)


def test_a_comparison_that_stops_early_is_found() -> None:
    """Control: the same test sees the difference that an ordinary comparison makes."""
    keys = world(1).keys
    times = compare(leaky(keys), keys, PAIRS, random.Random())
    assert times.chance < CHANCE_MAX, str(times)
    assert times.median_ns > 0


def test_a_check_costs_little() -> None:
    """Under 5 µs; with room for what other processes do to the caches meanwhile."""
    assert cost_ns() < NOISE * COST_NS_MAX
