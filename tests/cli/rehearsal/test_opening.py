"""When one can grab in a campaign."""

from typing import Any

import pytest

from flashgrab.cli.failure import Failure
from flashgrab.cli.rehearsal.opening import read_opening


def body(status: str, *rounds: tuple[str, str], now: str = "10:00:00") -> dict[str, Any]:
    day = "2026-11-22T"
    return {
        "name": "N",
        "status": status,
        "server_time": f"{day}{now}.500Z",
        "rounds": [
            {
                "round": number,
                "opens_at": f"{day}{opens}.000Z",
                "closes_at": f"{day}{closes}.000Z",
                "left": number * 10,
            }
            for number, (opens, closes) in enumerate(rounds, 1)
        ],
    }


def test_the_next_round_and_how_long_it_takes() -> None:
    """By the server's clock: the round that comes next, past the one that is over."""
    found = read_opening(
        "c", body("NOT_STARTED", ("09:00:00", "09:30:00"), ("10:00:10", "11:00:00"))
    )
    assert (found.round, found.left, found.opens_in_s, found.closes_in_s) == (2, 20, 9.5, 3599.5)


def test_an_open_round_opens_in_no_time() -> None:
    """Zero or less: grab now."""
    found = read_opening("c", body("CLAIMABLE", ("09:00:00", "11:00:00")))
    assert found.opens_in_s < 0


@pytest.mark.parametrize("status", ["ENDED", "PAUSED", "OFFLINE"])
def test_where_nobody_can_grab_nobody_is_sent(status: str) -> None:
    """One line names the campaign and its state."""
    with pytest.raises(Failure, match=f"campaign c is {status}"):
        read_opening("c", body(status, ("09:00:00", "11:00:00")))
