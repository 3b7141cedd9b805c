"""The shape of a drop."""

from loadtests.drop import HALF_LIFE_S, PEAK_S, users_at, words


def test_quiet_then_a_step_then_a_decay() -> None:
    """A few before the opening, all of them in its second, half as many each half-life."""
    assert users_at(None, 200) == users_at(-0.001, 200) == 20
    assert users_at(0.0, 200) == users_at(PEAK_S - 0.001, 200) == 200
    assert users_at(PEAK_S + HALF_LIFE_S, 200) == 100
    assert users_at(PEAK_S + 2 * HALF_LIFE_S, 200) == 50


def test_somebody_is_always_there() -> None:
    """Until every buyer has come, however small the crowd and however late."""
    assert users_at(1e9, 200) == 20
    assert users_at(None, 1) == users_at(0.0, 1) == users_at(1e9, 1) == 1


def test_the_result_says_the_shape() -> None:
    """With its numbers."""
    assert words(200).startswith("drop: 20 users before the opening, 200 from its second on for 2")
