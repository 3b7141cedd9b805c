"""`python -m tests.passes [--count 1000000] [--seed 1] [--pairs 20000]`: the proofs of the pass at
their full size. Exit status 1 where one of them does not hold."""

import argparse
import random
import sys
import time
from timeit import repeat

from flashgrab.passes import Pass, PassKeys
from tests.passes.mutations import World, attempts
from tests.passes.timing import CHANCE_MAX, compare, leaky
from tests.passes.trial import trial

KEYS = "k1:" + "a" * 40 + ",k2:" + "b" * 40
CAMPAIGNS = ("spring-618", "spring-619", "autumn", "a", "c" * 48)
NOW_MS = 1_790_000_000_000
COST_CALLS = 20_000
COST_NS_MAX = 5000


def world(seed: int) -> World:
    """Two keys, five campaigns, from one seed."""
    return World(PassKeys.parse(KEYS), CAMPAIGNS, NOW_MS, random.Random(seed))


def cost_ns() -> float:
    """CPU of one check of a good pass; the least of ten batches."""
    keys = PassKeys.parse(KEYS)
    token = keys.sign(Pass("spring-618", "user@1234567", "device.1", NOW_MS + 1)).encode()
    batches = repeat(
        lambda: keys.verify(token, NOW_MS), number=COST_CALLS, repeat=10, timer=time.process_time
    )
    return min(batches) / COST_CALLS * 1e9


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.passes", description=__doc__)
    parser.add_argument("--count", type=int, default=1_000_000, help="mutated passes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=20_000, help="timed pairs of wrong MACs")
    told = parser.parse_args()

    here = world(told.seed)
    verdict = trial(here.keys, here, attempts(here, told.count))
    print(verdict)
    rng = random.Random(told.seed)
    times = compare(here.keys.verify, here.keys, told.pairs, rng)
    print(f"compare_digest: {times}")
    planted = compare(leaky(here.keys), here.keys, max(1, told.pairs // 20), rng)
    print(f"a comparison that stops early: {planted}")
    cost = cost_ns()
    print(f"one check of a good pass: {cost:.0f} ns of CPU (at most {COST_NS_MAX:,})")
    timing = times.chance > CHANCE_MAX > planted.chance
    return 0 if verdict.is_good and timing and cost < COST_NS_MAX else 1


if __name__ == "__main__":
    sys.exit(main())
