"""The books of Locust's crowd."""

import pytest

from loadtests.crowd import WRONG_MAX, Crowd


def test_buyers_are_dealt_out_once() -> None:
    """Ten buyers to three users; a fourth user gets none."""
    crowd = Crowd("u", 10, 3)
    dealt = [crowd.deal() for _ in range(4)]
    assert [len(some) for some in dealt] == [4, 3, 3, 0]
    assert sorted(buyer for some in dealt for buyer in some) == sorted(f"u{n}" for n in range(10))


def test_the_last_user_ends_the_run() -> None:
    """And no other."""
    crowd = Crowd("u", 10, 3)
    assert [crowd.done() for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize(
    "first, again",
    [
        (("GRANTED", "c-1"), ("REPLAYED", "c-1")),
        (("REPLAYED", "c-1"), ("REPLAYED", "c-1")),
        (("SOLD_OUT", None), ("SOLD_OUT", None)),
    ],
)
def test_right_answers_are_served(
    first: tuple[str, str | None], again: tuple[str, str | None]
) -> None:
    """A grant and its replay, a replay because the first answer was lost, sold out twice."""
    crowd = Crowd("u", 1, 1)
    crowd.judge("u0", first, again)
    assert (crowd.served, crowd.wrong) == (1, [])


@pytest.mark.parametrize(
    "first, again",
    [
        (("GRANTED", "c-1"), ("GRANTED", "c-2")),
        (("GRANTED", "c-1"), ("REPLAYED", "c-2")),
        (("GRANTED", "c-1"), ("SOLD_OUT", None)),
        (("SOLD_OUT", None), ("GRANTED", "c-1")),
        (("USER_LIMIT", None), ("USER_LIMIT", None)),
        (("NO_ANSWER", None), ("NO_ANSWER", None)),
    ],
)
def test_wrong_answers_are_kept(
    first: tuple[str, str | None], again: tuple[str, str | None]
) -> None:
    """Two coupons, another coupon, a winner told sold out, a grant after sold out, a refusal that
    cannot be, and no answer."""
    crowd = Crowd("u", 1, 1)
    crowd.judge("u0", first, again)
    assert len(crowd.wrong) == 1


def test_a_coupon_has_one_owner() -> None:
    """One coupon for two buyers is named; granted counts coupons."""
    crowd = Crowd("u", 2, 1)
    for buyer in ("u0", "u1"):
        crowd.judge(buyer, ("GRANTED", "c-1"), ("REPLAYED", "c-1"))
    assert crowd.wrong == ["c-1 was given to u0 and to u1"]
    assert crowd.report()["granted"] == 1


def test_the_report_is_whole() -> None:
    """Requests, answers, errors and rates, from the first to the last answer."""
    crowd = Crowd("u", 1, 1, repeats=1)
    crowd.sent(503, "BUSY", 10.0)
    crowd.sent(201, "GRANTED", 11.0)
    crowd.sent(200, "REPLAYED", 12.0)
    crowd.judge("u0", ("GRANTED", "c-1"), ("REPLAYED", "c-1"))
    assert crowd.report() == {
        "buyers": 1,
        "users": 1,
        "served": 1,
        "granted": 1,
        "requests": 3,
        "errors": 1,
        "repeats": 1,
        "answers": {"BUSY": 1, "GRANTED": 1, "REPLAYED": 1},
        "wrong": [],
        "by_second": [1, 1, 1],
        "seconds": 2.0,
        "requests_per_second": 1.5,
    }


def test_what_is_wrong_is_bounded() -> None:
    """A run gone wrong altogether keeps some of it."""
    crowd = Crowd("u", 100, 1)
    for number in range(100):
        crowd.judge(f"u{number}", ("NO_ANSWER", None), ("NO_ANSWER", None))
    assert len(crowd.wrong) == WRONG_MAX


def test_the_next_buyer_is_whoever_was_not_served() -> None:
    """One by one, each once; all are served when each has his two answers."""
    crowd = Crowd("u", 2, 5)
    assert [crowd.next() for _ in range(3)] == ["u0", "u1", None]
    for buyer, coupon in (("u0", "c-1"), ("u1", "c-2")):
        assert not crowd.all_served()
        crowd.judge(buyer, ("GRANTED", coupon), ("REPLAYED", coupon))
    assert crowd.all_served()


def test_requests_are_counted_by_second() -> None:
    """From the first one on; a second without any is 0."""
    crowd = Crowd("u", 9, 1)
    for now_s in (100.5, 101.0, 101.75, 103.5):
        crowd.sent(201, "GRANTED", now_s)
    assert crowd.report()["by_second"] == [2, 1, 0, 1]
