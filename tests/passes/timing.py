"""Does the time of a refusal tell how much of a guessed MAC was right?

Two passes differ from a good one in the first or in the last character of the MAC. They are timed
side by side, and a coin says which goes first: if the time does not depend on where the wrong
character is, each of the two is the slower one with probability 1/2, whatever the machine does
meanwhile and however its noise hangs together. So the count of pairs is binomial, and the test's
own error is exactly what `chance` says (a sign test under randomisation; Lehmann and Romano,
Testing Statistical Hypotheses, chapter 15).
"""

import random
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import repeat
from math import comb
from time import perf_counter_ns

from flashgrab.passes import Pass, PassKeys

CHANCE_MAX = 1e-6
"""Below it the times are taken to differ."""
CALLS = 4
"""Checks a reading."""
READINGS = 5
"""Of each of the two in a pair, in turns; the smallest counts: it has the least of the machine."""
HEX = b"0123456789abcdef"

Verify = Callable[[bytes, int], list[bytes] | None]


@dataclass(frozen=True)
class Times:
    """Of all pairs: how often the last character took longer than the first, or less long."""

    longer: int
    shorter: int
    median_ns: float
    """Of one check with the last character wrong, less one with the first."""
    check_ns: float

    @property
    def chance(self) -> float:
        """That equal times differ so much or more (two-sided, exact)."""
        count, fewer = self.longer + self.shorter, min(self.longer, self.shorter)
        tail = sum(comb(count, k) for k in range(fewer + 1))
        return float(min(1.0, 2 * tail / 2**count))

    def __str__(self) -> str:
        return (
            f"last character wrong: slower in {self.longer:,} pairs, faster in {self.shorter:,}; "
            f"median difference {self.median_ns:+.2f} ns of {self.check_ns:.0f} ns; "
            f"by chance alone p = {self.chance:.3g}"
        )


def compare(verify: Verify, keys: PassKeys, pairs: int, rng: random.Random) -> Times:
    """Time so many pairs, each of a pass of its own."""
    now_ms, longer, shorter, differences, least = 1_790_000_000_000, 0, 0, [], []
    for n in range(pairs):
        good = keys.sign(Pass("spring-618", f"user{n:06d}", "", now_ms + 60_000)).encode()
        at = (len(good) - 32, len(good) - 1)
        order = rng.sample((0, 1), 2)
        tokens = [_wrong_at(good, at[which], rng) for which in order]
        best = [1 << 62, 1 << 62]
        for _ in range(READINGS):
            for place, token in enumerate(tokens):  # what is timed knows places, not which is which
                begin = perf_counter_ns()
                for _ in repeat(None, CALLS):
                    verify(token, now_ms)
                took = perf_counter_ns() - begin
                best[place] = min(best[place], took)
        first, last = best[order.index(0)], best[order.index(1)]
        longer += last > first
        shorter += last < first
        differences.append((last - first) / CALLS)
        least.append(first / CALLS)
    return Times(longer, shorter, statistics.median(differences), statistics.median(least))


def _wrong_at(token: bytes, at: int, rng: random.Random) -> bytes:
    """Made in the same steps for every place: where bytes are put together from pieces, an empty
    last piece leads to another place in memory, and that was seen (p = 2e-5 of 20,000 pairs)."""
    wrong = bytearray(token)
    wrong[at] = rng.choice([byte for byte in HEX if byte != token[at]])
    return bytes(wrong)


def leaky(keys: PassKeys) -> Verify:
    """verify() with the comparison that everybody writes first: it stops where they differ."""

    def verify(token: bytes, now_ms: int) -> list[bytes] | None:
        body, _, mac = token.rpartition(b"/")
        fields = token.split(b"/")
        signed = keys.keys[fields[0][3:].decode()].copy()
        signed.update(body)
        for there, here in zip(signed.hexdigest().encode(), mac, strict=True):
            if there != here:
                return None
        return fields if int(fields[4]) > now_ms else None

    return verify
