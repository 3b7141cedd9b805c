"""Median, spread and ratios."""

import pytest

from bench.figures import Spread, number, ratios, spread


def test_spread_is_median_lowest_and_highest() -> None:
    """The order of the rounds does not matter; an even number has the mean of the middle two."""
    assert spread([30, 10, 20]) == Spread(20, 10, 30)
    assert spread([4, 1, 2, 3]) == Spread(2.5, 1, 4)


def test_no_rounds_have_no_spread() -> None:
    """Nothing measured is an error, not a zero."""
    with pytest.raises(ValueError, match="no rounds"):
        spread([])


def test_ratios_are_taken_round_by_round() -> None:
    """Rounds at which the machine was slow for both do not change the ratio."""
    assert ratios([200, 20, 210], [100, 10, 100]) == Spread(2.0, 2.0, 2.1)


def test_rounds_that_do_not_pair_up_are_an_error() -> None:
    """A missing round must not shift the pairs."""
    with pytest.raises(ValueError, match="shorter"):
        ratios([1, 2], [1])


@pytest.mark.parametrize(
    "value,text",
    [(17234.4, "17,234"), (999.4, "999"), (56.34, "56.3"), (4.913, "4.91"), (0.0, "0.00")],
)
def test_numbers_keep_the_digits_that_matter(value: float, text: str) -> None:
    """Noise is not printed as precision."""
    assert number(value) == text


def test_a_spread_prints_its_median_first() -> None:
    """What the tables show."""
    assert str(Spread(17234, 16000, 18000)) == "17,234 (16,000…18,000)"
