"""Feeds the dead-letter topic from the dead table. A letter may come twice, never not at all."""

import json

from flashgrab import keys
from flashgrab.broker import Producer, Record, UnknownTopic, ensure_topics
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable
from flashgrab.ledger import letters
from flashgrab.ledger.letters import Unpublished
from flashgrab.ledger.pool import Pool
from worker.topics import TOPICS

LETTERS_MAX = 500
VALUE_MAX = 500_000
"""Bytes of a message that are published: with the reason beside it, one that just went into the
topic of the facts would be too large, and hold up all others. The table has the whole."""


class DeadLetters:
    """The walker's third duty. Raises LedgerUnavailable; a broker that is away is tried again."""

    def __init__(self, pool: Pool, bootstrap: str, clock: Clock) -> None:
        self._pool = pool
        self._bootstrap = bootstrap
        self._clock = clock

    async def step(self) -> int:
        """Publish what waits, at most LETTERS_MAX. Returns how many; 0 while Kafka is away."""
        waiting = await letters.unpublished(self._pool, LETTERS_MAX)
        if not waiting:
            return 0
        # there are few of these, so a producer is made for each round of them
        producer = Producer(self._bootstrap, keys.DEAD_TOPIC)
        try:
            try:
                await producer.start()
            except UnknownTopic:
                await ensure_topics(self._bootstrap, TOPICS)
                return 0
            await producer.publish([record_of(letter) for letter in waiting])
        except BrokerUnavailable:
            return 0
        finally:
            await producer.stop()
        await letters.mark_published(
            self._pool, [letter.digest for letter in waiting], self._clock.now_ms()
        )
        return len(waiting)


def record_of(waiting: Unpublished) -> Record:
    """The message as it came, with the reason in its headers."""
    letter = waiting.letter
    place = {"campaign_id": letter.campaign_id, "seq": letter.seq, "at_ms": waiting.at_ms}
    headers = [
        ("reason", letter.reason.encode()),
        ("detail", letter.detail.encode()),
        ("place", json.dumps(place).encode()),
    ]
    if len(letter.value) > VALUE_MAX:
        headers.append(("bytes", str(len(letter.value)).encode()))
    return Record(letter.key, letter.value[:VALUE_MAX], headers, waiting.at_ms)
