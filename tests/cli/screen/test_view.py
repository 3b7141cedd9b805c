"""What the live screen works out from readings and from the gateway's list of campaigns."""

from typing import Any

import pytest

from flashgrab.cli.readings import Line
from flashgrab.cli.screen.view import (
    GROUPS,
    Tick,
    choices,
    ledger_lag_s,
    outcomes,
    rates,
    sale,
    sold_out_in_s,
)
from flashgrab.outcomes import Outcome


def tick(at_s: float, granted: int = 0, lag: int | None = 0) -> Tick:
    """A second with so many grants."""
    grabs = {"GRANTED": float(granted), "SOLD_OUT": 2.0}
    return Tick(at_s, 1.0, Line(grabs, None, None, None, None, lag, None, (), granted))


def campaign(name: str, status: str, opens_s: int, closes_s: int, left: int = 5) -> dict[str, Any]:
    def at(seconds: int) -> str:
        return f"2026-11-22T10:{seconds // 60:02}:{seconds % 60:02}Z"

    first = {"round": 1, "opens_at": at(opens_s), "closes_at": at(closes_s), "quota": 10,
             "left": left}  # fmt: skip
    return {"campaign_id": name, "name": name.title(), "status": status, "rounds": [first]}


PUBLIC = {
    "server_time": "2026-11-22T10:10:00Z",
    "campaigns": [
        campaign("over", "ENDED", 0, 60),
        campaign("soon", "NOT_STARTED", 700, 900),
        campaign("now", "CLAIMABLE", 590, 900),
        campaign("later", "NOT_STARTED", 800, 900),
    ],
}


def test_groups_name_outcomes_of_the_closed_list() -> None:
    """And none of them twice."""
    named = [outcome for some in GROUPS.values() for outcome in some]
    assert set(named) <= set(Outcome.__members__)
    assert len(named) == len(set(named))


def test_what_no_group_names_is_other() -> None:
    """Nothing is left out of the sum."""
    grabs = {"GRANTED": 1, "DEVICE_LIMIT": 2, "PAUSED": 4}
    line = Line(grabs, None, None, None, None, None, None, ())
    found = outcomes(line)
    assert (found["granted"], found["limit"], found["other"]) == (1, 2, 4)
    assert sum(found.values()) == 7


def test_the_stock_ends_as_coupons_go_now() -> None:
    """By the mean of the last five intervals; not where none go, or none are left."""
    ticks = [tick(0, 1000), *(tick(s, 10) for s in range(1, 6))]
    assert sold_out_in_s(ticks, 100) == 10
    assert sold_out_in_s(ticks, 0) is None
    assert sold_out_in_s(ticks, None) is None
    assert sold_out_in_s([tick(s) for s in range(5)], 100) is None
    assert sold_out_in_s([], 100) is None


@pytest.mark.parametrize(
    "grants, lag, expected",
    [
        ([5, 5, 5], 0, 0.0),
        ([5, 5, 5], 3, 1.0),  # the last second's
        ([5, 5, 5], 5, 1.0),
        ([5, 5, 5], 6, 2.0),
        ([5, 0, 0], 1, 3.0),
        ([5, 5, 5], 99, None),  # older than all that is remembered
        ([5], None, None),
    ],
)
def test_the_oldest_grant_that_the_ledger_lacks(
    grants: list[int], lag: int | None, expected: float | None
) -> None:
    """The newest `lag` grants are not in it; when was the first of those?"""
    assert ledger_lag_s([tick(n, g, lag) for n, g in enumerate(grants)]) == expected


def test_nothing_heard_yet() -> None:
    """No rates, no lag."""
    assert (rates([]), ledger_lag_s([])) == ((), None)
    assert rates([tick(0, 3)]) == (5.0,)


def test_one_campaign_as_buyers_see_it() -> None:
    """Times by the gateway's clock."""
    found = sale(PUBLIC, "now")
    assert found is not None
    assert (found.name, found.status, found.opens_in_s, found.closes_in_s) == (
        "Now", "CLAIMABLE", -10, 300,
    )  # fmt: skip
    assert (found.quota, found.left) == (10, 5)
    assert sale(PUBLIC, "nobody") is None
    assert sale({}, None) is None


def test_all_campaigns_are_sums() -> None:
    """Quota and left of those that are not over, and how many are open."""
    found = sale(PUBLIC, None)
    assert found is not None
    assert (found.status, found.quota, found.left) == ("1 of 4 CLAIMABLE", 30, 15)


def test_keys_choose_what_is_open_or_next_first() -> None:
    """Then what is over, then what only the metrics name; nine at the most."""
    assert choices(PUBLIC, {"now", "draft"}) == ("now", "soon", "later", "over", "draft")
    assert choices({}, {f"c{n}" for n in range(20)}) == tuple(
        sorted(f"c{n}" for n in range(20))[:9]
    )
