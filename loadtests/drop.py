"""The shape of a drop: quiet, a step in the second of the opening, then a decay. Pure."""

QUIET_SHARE = 0.1
"""Of the users: those who are there before the opening, with a pass, and look."""
PEAK_S = 2.0
HALF_LIFE_S = 3.0
LAST_SHARE = 0.1
"""What the decay ends in, until every buyer has come."""
PAUSE_S = 0.25
"""From a user's buyer to his next one: without it few users would load as much as many."""


def users_at(since_opening_s: float | None, users: int) -> int:
    """Users at once, so long after the opening; before it (or while it is not known) a few."""
    if since_opening_s is None or since_opening_s < 0:
        share = QUIET_SHARE
    elif since_opening_s < PEAK_S:
        share = 1.0
    else:
        share = max(LAST_SHARE, 0.5 ** ((since_opening_s - PEAK_S) / HALF_LIFE_S))
    return max(1, round(users * share))


def words(users: int) -> str:
    """The shape in a line, for the result."""
    quiet, last = users_at(None, users), users_at(float("inf"), users)
    return (
        f"drop: {quiet} users before the opening, {users} from its second on for {PEAK_S:g} s, then"
        f" half as many every {HALF_LIFE_S:g} s down to {last}; {PAUSE_S:g} s from buyer to buyer"
    )
