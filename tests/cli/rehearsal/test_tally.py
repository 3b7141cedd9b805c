"""What a buyer must see, one row a case, and the sums of a campaign."""

import pytest

from flashgrab.cli.rehearsal.crowd import Answered, Ask
from flashgrab.cli.rehearsal.sale import Sale
from flashgrab.cli.rehearsal.tally import PROBLEMS_MAX, Tally, buyer_problems
from flashgrab.outcomes import Outcome

G, R, U, S = Outcome.GRANTED, Outcome.REPLAYED, Outcome.USER_LIMIT, Outcome.SOLD_OUT


def answer(
    key: str,
    outcome: Outcome | None,
    *grabs: str,
    user: str = "u",
    repeats: int = 0,
    at: tuple[float, float] = (1.0, 2.0),
) -> Answered:
    said = outcome.name if outcome else "no answer (reset)"
    return Answered(Ask("c", user, key), outcome, said, grabs, repeats, *at)


RIGHT = {
    "grab first": [answer("a", G, "c-1"), answer("a", R, "c-1"), answer("b", U, "c-1")],
    "other key first": [answer("b", G, "c-1"), answer("a", U, "c-1"), answer("a", U)],
    "sold out": [answer("a", S), answer("a", S), answer("b", S)],
    "first answer lost": [answer("a", R, "c-1", repeats=1), answer("a", R, "c-1"), answer("b", U)],
    "lost between gateway and Redis": [answer("a", R, "c-1"), answer("a", R, "c-1")],
}
WRONG = {
    "two coupons": ([answer("a", G, "c-1"), answer("b", G, "c-2")], "holds 2 coupons: c-1, c-2"),
    "twice new": ([answer("a", G, "c-1"), answer("a", G, "c-1")], "told 2 times that c-1 is new"),
    "winner told sold out": ([answer("a", G, "c-1"), answer("a", S)], "key a won, but was told"),
    "other key told sold out": (
        [answer("a", G, "c-1"), answer("b", S)],
        "key b of a winner was told SOLD_OUT, not USER_LIMIT",
    ),
    "limit names another": (
        [answer("a", G, "c-1"), answer("b", U, "c-9")],
        "USER_LIMIT names c-9",
    ),
    "limit without coupon": ([answer("a", U), answer("b", S)], "holds nothing, was told"),
    "no answer": ([answer("a", None), answer("a", S)], "key a ended with no answer (reset)"),
    "still busy": ([answer("a", Outcome.BUSY), answer("a", S)], "key a ended with BUSY"),
}


@pytest.mark.parametrize("answers", RIGHT.values(), ids=RIGHT)
def test_right_answers_are_no_problem(answers: list[Answered]) -> None:
    """Whichever ask came first, and whatever got lost on the way back."""
    assert buyer_problems(answers) == []


@pytest.mark.parametrize("answers, words", WRONG.values(), ids=WRONG)
def test_each_wrong_answer_is_named(answers: list[Answered], words: str) -> None:
    """One row for each thing that no buyer may see."""
    assert any(words in problem for problem in buyer_problems(answers))


def tally(buyers: int, quota: int) -> Tally:
    names = [f"u{n}" for n in range(buyers)]
    return Tally(Sale("c", "C", names, quota, ("a", "b")))


def test_the_sums_of_a_right_sale() -> None:
    """Granted, replayed, refused by reason and time; nothing is wrong."""
    found = tally(2, 1)
    found.take(answer("a", G, "c-1", user="u0", at=(3.0, 4.0)))
    found.take(answer("a", S, user="u1", repeats=2, at=(1.0, 2.0)))
    found.take(answer("b", U, user="u0", at=(3.0, 5.0)))
    found.take(answer("b", S, user="u1"))
    found.close()
    assert (found.granted, found.replayed, found.refused) == (1, 0, {U: 1, S: 2})
    assert (found.answered, found.repeats, found.unanswered) == (4, 2, 0)
    assert (found.seconds, found.grabs_per_second) == (4.0, 1.0)
    assert found.problems == []


def test_too_few_grants_are_named() -> None:
    """Granted must be min(quota, buyers)."""
    found = tally(1, 1)
    found.take(answer("a", S, user="u0"))
    found.take(answer("b", S, user="u0"))
    found.close()
    assert found.problems == ["granted 0, expected 1 = min(quota 1, buyers 1)"]


def test_what_other_buyers_got_is_not_missing() -> None:
    """Sold out in the end: one of two coupons went to somebody who is not of the crowd."""
    found = tally(2, 2)
    for user, outcome, grabs in (("u0", G, ["c-2"]), ("u1", S, [])):
        found.take(answer("a", outcome, *grabs, user=user))
        found.take(answer("b", U if grabs else S, *grabs, user=user))
    found.went_to_others(0)
    found.close()
    assert (found.others, found.expected, found.problems) == (1, 1, [])
    assert found.sold_out_ms == 1000


def test_what_is_left_is_missing() -> None:
    """A buyer was told SOLD_OUT, and a coupon is there: no other buyer has it."""
    found = tally(1, 1)
    found.take(answer("a", S, user="u0"))
    found.take(answer("b", S, user="u0"))
    found.went_to_others(1)
    found.close()
    assert found.problems == ["granted 0, expected 1 = min(quota 1, buyers 1)"]


def test_others_do_not_hide_what_was_oversold() -> None:
    """Two coupons where there was one, and nothing left."""
    found = tally(2, 1)
    for number in range(2):
        found.take(answer("a", G, f"c-{number}", user=f"u{number}"))
        found.take(answer("b", U, f"c-{number}", user=f"u{number}"))
    found.went_to_others(0)
    found.close()
    assert found.problems == ["granted 2, expected 1 = min(quota 1, buyers 2)"]
    assert (found.others, found.granted - found.sale.quota) == (0, 1)


def test_one_coupon_given_to_two_buyers_is_named() -> None:
    """A serial has one owner."""
    found = tally(2, 2)
    for user in ("u0", "u1"):
        found.take(answer("a", G, "c-1", user=user))
        found.take(answer("b", U, "c-1", user=user))
    found.close()
    assert found.problems == ["c-1 was given to buyer u0 and to buyer u1"]


def test_a_coupon_of_another_campaign_is_named() -> None:
    """A grab id begins with its campaign."""
    found = tally(1, 1)
    found.take(answer("a", G, "d-1", user="u0"))
    found.take(answer("b", U, "d-1", user="u0"))
    found.close()
    assert found.problems == ["buyer u0: d-1 is of another campaign"]


def test_a_buyer_who_was_never_answered_is_named() -> None:
    """An ask that was never answered does not go unnoticed."""
    found = tally(1, 1)
    found.take(answer("a", G, "c-1", user="u0"))
    found.close()
    assert "buyer u0: 1 requests were never answered" in found.problems


def test_problems_are_bounded() -> None:
    """A sale gone wrong altogether keeps some problems as text and counts the rest."""
    found = tally(100, 100)
    for number in range(100):
        found.take(answer("a", None, user=f"u{number}"))
        found.take(answer("b", None, user=f"u{number}"))
    found.close()
    assert found.problems[0].startswith("granted 0, expected 100")
    assert (len(found.problems), found.unanswered) == (1 + PROBLEMS_MAX, 200)
    assert found.problems_more == 200 - PROBLEMS_MAX
