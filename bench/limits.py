"""`python -m bench.limits`: what rate limits cost a grab that is granted.

All granted (W1), one process, `appendfsync always`. Three ways in turns, each point on a fresh
Valkey and gateway: no limits, a user's alone, and user, address with its block, and campaign, far
enough above the load that nobody is refused. CPU µs of Redis are of the stock's server and of the
limiter's together.
"""

import sys
from collections.abc import Sequence

from bench import points
from bench.passes import Blake2Passes
from bench.points import Way
from bench.systems.ours import Ours

OFF, USER, ALL = "no limits", "a user's", "user, address, block, campaign"
FAR = "9999999/1s"


def ways(passes: Blake2Passes) -> Sequence[Way]:
    """In the order of the table."""
    all_ = {"user": "5/10s", "address": FAR, "campaign": FAR}
    return [
        Way(Ours(passes, OFF)),
        Way(Ours(passes, USER, limits={"user": "5/10s"}), limiter=True),
        Way(Ours(passes, ALL, limits=all_), limiter=True),
    ]


COMPARISON = points.Comparison(
    kind="limits",
    title="What rate limits cost",
    differs="limits",
    base=OFF,
    over="none",
    beside="the limiter beside Valkey",
    ways=ways,
)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    return points.compare(COMPARISON, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
