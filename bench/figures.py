"""Median and spread: what a row of rounds says, and how far the rounds lie apart."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some rounds with the lowest and the highest of them."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{number(self.median)} ({number(self.low)}…{number(self.high)})"


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError where there is no value."""
    if not values:
        raise ValueError("no rounds")
    return Spread(statistics.median(values), min(values), max(values))


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> Spread:
    """Round by round, since the rounds of one pair ran side by side; then the median of those."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def number(value: float) -> str:
    """Three digits that matter, thousands with a comma: 17,234 · 56.3 · 4.91."""
    if value >= 1000:
        return f"{value:,.0f}"
    decimals = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{decimals}f}"
