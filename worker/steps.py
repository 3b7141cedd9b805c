"""Where tests can stop relay, worker and walker: a hook awaited at each named step."""

from collections.abc import Awaitable, Callable
from typing import Literal

Step = Literal[
    "read",  # relay: entries are read, nothing is published yet
    "published",  # relay: the broker has acknowledged, the cursor has not moved
    "cursor",  # relay: the cursor has moved
    "fetched",  # persist: records are fetched, nothing is written
    "written",  # persist: written, not committed
    "committed",  # persist: in the ledger, Kafka does not know
    "committed_kafka",  # persist: Kafka knows, too
    "advanced",  # walker: the ledger's watermark has moved, Redis does not know
    "settled",  # walker: Redis knows, and the outbox is trimmed
]
Hook = Callable[[Step], Awaitable[None]]


async def go_on(_step: Step) -> None:
    """The hook of every day: does nothing."""
