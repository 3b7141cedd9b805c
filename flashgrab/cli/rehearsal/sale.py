"""What a rehearsal sends: who grabs in which campaign, and in which order."""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from flashgrab.cli.rehearsal.crowd import Ask

MIXED_AT_ONCE = 256
"""Asks among which the next one is drawn: a grab and its duplicates race, but stay close."""

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, slots=True)
class Sale:
    """One campaign of a rehearsal: its buyers, the coupons that they find, the asks of each.

    `copies` are the Idempotency-Keys of one buyer's asks, by their last part: ("a", "a", "b") is a
    grab, a duplicate with the same key, and one with another key.
    """

    campaign_id: str
    name: str
    buyers: Sequence[str]
    quota: int
    copies: tuple[str, ...]
    round: int | None = None
    """Of a campaign that was there before, where others may grab too; None where nobody can."""

    @property
    def asked(self) -> int:
        """Asks of all buyers."""
        return len(self.buyers) * len(self.copies)


class Names(Sequence[str]):
    """Buyers `PREFIX0` to `PREFIX(count-1)`, without keeping a list of them."""

    def __init__(self, prefix: str, count: int) -> None:
        self._prefix = prefix
        self._numbers = range(count)

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index):  # type: ignore[no-untyped-def] # int or slice, as Sequence has it
        if isinstance(index, slice):
            return [f"{self._prefix}{number}" for number in self._numbers[index]]
        return f"{self._prefix}{self._numbers[index]}"


def run_name(now_ms: int) -> str:
    """The prefix of a run: `r` and the time in base 36, another one every millisecond."""
    digits = ""
    while now_ms:
        now_ms, digit = divmod(now_ms, 36)
        digits = _DIGITS[digit] + digits
    return f"r{digits or '0'}"


def asks(sales: Sequence[Sale], run: str, rng: random.Random) -> Iterator[Ask]:
    """Every ask of every buyer, all campaigns side by side, neighbours in random order."""
    drawn: list[Ask] = []
    for sale, buyer in side_by_side(sales):
        drawn += [Ask(sale.campaign_id, buyer, f"{run}-{copy}") for copy in sale.copies]
        while len(drawn) > MIXED_AT_ONCE:
            yield _draw(drawn, rng)
    while drawn:
        yield _draw(drawn, rng)


def side_by_side(sales: Iterable[Sale]) -> Iterator[tuple[Sale, str]]:
    """Buyers of all sales, each sale spread evenly over the whole: all of them end together."""
    known = [sale for sale in sales if len(sale.buyers)]
    steps = max((len(sale.buyers) for sale in known), default=0)
    for step in range(steps):
        for sale in known:
            size = len(sale.buyers)
            for index in range(size * step // steps, size * (step + 1) // steps):
                yield sale, sale.buyers[index]


def _draw(drawn: list[Ask], rng: random.Random) -> Ask:
    index = rng.randrange(len(drawn))
    drawn[index], drawn[-1] = drawn[-1], drawn[index]
    return drawn.pop()
