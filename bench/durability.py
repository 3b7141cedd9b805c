"""`python -m bench.durability`: what `durability = "replica"` costs beside "fsync".

All granted (W1), one process, `appendfsync always` at primary and replica. Three ways in turns,
each point on a fresh Valkey and gateway: "fsync" without any replica, "fsync" with one that nobody
waits for, and "replica". CPU µs of Redis are of both servers together.
"""

import sys
from collections.abc import Sequence

from bench import points
from bench.passes import Blake2Passes
from bench.points import Way
from bench.systems.ours import Ours

ALONE, BESIDE, WAITS = "fsync, no replica", "fsync, with a replica", "replica"


def ways(passes: Blake2Passes) -> Sequence[Way]:
    """In the order of the table."""
    return [
        Way(Ours(passes, ALONE)),
        Way(Ours(passes, BESIDE), replica=True),
        Way(Ours(passes, WAITS, durability="replica"), replica=True),
    ]


COMPARISON = points.Comparison(
    kind="durability",
    title="What waiting for a replica costs",
    differs="durability",
    base=BESIDE,
    over=BESIDE,
    beside="the replica beside Valkey",
    ways=ways,
)


def main(argv: list[str] | None = None) -> int:
    """Measure, write the result file, print its table. 1: an answer or a book is wrong."""
    return points.compare(COMPARISON, __doc__, argv)


if __name__ == "__main__":
    sys.exit(main())
