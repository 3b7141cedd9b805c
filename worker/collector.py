"""Python's cyclic garbage collector in processes that hold tens of thousands of records."""

import gc

YOUNG_OBJECTS = 100_000
"""New containers between two looks at the young ones; a round of relay or worker makes about so
many, none of them in a cycle. With Python's own 700 the collector took a third of the CPU that
fetching takes (8.6 against 5.8 µs a record, bench/drain.py)."""


def relax_collector() -> None:
    """Look at what starting made no more, and at new objects rarely. Call it once, at the start."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
