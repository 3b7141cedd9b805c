"""Who asks what, and in which order."""

import random
from collections import Counter

from flashgrab.cli.rehearsal.crowd import Ask
from flashgrab.cli.rehearsal.sale import MIXED_AT_ONCE, Names, Sale, asks, run_name, side_by_side
from flashgrab.ids import is_campaign_id, is_idempotency_key, is_user_id


def sale(name: str, buyers: int, quota: int = 5, copies: tuple[str, ...] = ("a", "a", "b")) -> Sale:
    return Sale(name, name, Names(f"{name}-u", buyers), quota, copies)


def test_every_buyer_asks_with_every_copy() -> None:
    """Three asks a buyer."""
    assert (sale("c", 10).asked, sale("c", 3).asked) == (30, 9)


def test_names_are_a_sequence_without_a_list() -> None:
    """A million buyers cost nothing; length, index, slice and loop work."""
    names = Names("u", 1_000_000)
    assert (len(names), names[0], names[-1], names[3:5]) == (
        1_000_000,
        "u0",
        "u999999",
        ["u3", "u4"],
    )
    assert list(Names("u", 2)) == ["u0", "u1"]


def test_every_buyer_asks_all_his_copies() -> None:
    """Each ask of each buyer comes exactly once, keys by the run."""
    sales = [sale("c1", 7), sale("c2", 400), sale("c3", 1)]
    seen = Counter(asks(sales, "r1", random.Random(1)))
    for one in sales:
        for buyer in one.buyers:
            assert seen[Ask(one.campaign_id, buyer, "r1-a")] == 2
            assert seen[Ask(one.campaign_id, buyer, "r1-b")] == 1
    assert seen.total() == sum(one.asked for one in sales)


def test_duplicates_race_and_stay_close() -> None:
    """Often another ask of a buyer comes before his first key's, and all within a short while."""
    order = list(asks([sale("c", 2000)], "r", random.Random(1)))
    first: dict[str, int] = {}
    other_first, distances = 0, []
    for index, ask in enumerate(order):
        if ask.user_id not in first:
            first[ask.user_id] = index
            other_first += ask.key == "r-b"
        distances.append(index - first[ask.user_id])
    assert other_first > 300
    assert sorted(distances)[len(distances) // 2] < 2 * MIXED_AT_ONCE


def test_campaigns_run_side_by_side() -> None:
    """Halfway through, each campaign has sent about half of its buyers."""
    sales = [sale("small", 10), sale("large", 1000), sale("none", 0)]
    order = [one.campaign_id for one, _ in side_by_side(sales)]
    assert Counter(order) == {"small": 10, "large": 1000}
    half = Counter(order[: len(order) // 2])
    assert 4 <= half["small"] <= 6


def test_runs_have_names_that_fit_every_form() -> None:
    """Another name every millisecond; campaign, user and key made of it are of their forms."""
    now = 1_795_384_800_000
    assert run_name(now) != run_name(now + 1)
    assert run_name(0) == "r0"
    assert int(run_name(now)[1:], 36) == now
    assert is_campaign_id(f"{run_name(now)}-c27")
    assert is_user_id(f"{run_name(now)}-999999")
    assert is_idempotency_key(f"{run_name(now)}-a")
