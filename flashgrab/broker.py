"""The only adapter to Kafka: topics, a disposable producer, a group consumer, reading by offset.

Everything here ends: each call has a deadline of its own, in milliseconds, and raises
BrokerUnavailable past it. aiokafka's own retries run inside that deadline. Nothing here decides
what a record means, and offsets are the caller's: the consumer starts where it is told to.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import aiokafka.client
from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.protocol.metadata import MetadataRequest

from flashgrab.errors import BrokerUnavailable, FlashgrabError

# aiokafka lets every metadata request create missing topics. A broker that lost its topics (a
# restart of the embedded one) would make them anew with its own number of partitions before
# ensure_topics can. So only ensure_topics creates; elsewhere a missing topic is UnknownTopic.
aiokafka.client.MetadataRequest = partial(MetadataRequest, allow_auto_topic_creation=False)

RETRY_MS = 50  # between two attempts inside one deadline
METADATA_AGE_MS = 2_000  # a topic that was made anew is noticed within this
STOP_MS = 2_000  # a clean stop may take this long, then the connections are just closed
PRODUCE_BATCH_BYTES = 900_000  # below Kafka's default message.max.bytes (1,048,588)
FETCH_WAIT_MS = (
    100  # the broker holds an empty fetch this long; the embedded one adds it to latency
)
HIGHWATER_GRACE_MS = 1_000  # after a change of leader the high watermark may lag behind the log

_EARLIEST, _LATEST = -2, -1  # timestamps with a meaning of their own in a ListOffsets request
_UNKNOWN_TOPIC = 3  # Kafka's error codes
_OFFSET_OUT_OF_RANGE = 1

Headers = Sequence[tuple[str, bytes]]


class Record(NamedTuple):
    """A record to publish."""

    key: bytes
    value: bytes
    headers: Headers
    timestamp_ms: int


class Received(NamedTuple):
    """A record as it stands in a partition."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class UnknownTopic(BrokerUnavailable):
    """The broker answers but has no such topic (any more): call ensure_topics, then go on."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses for a reason that a repeat does not change (size, authorisation)."""

    retriable = False


class OffsetLost(FlashgrabError):
    """The log of these partitions ends before the consumer's positions: another incarnation."""

    retriable = True

    def __init__(self, partitions: Iterable[int]) -> None:
        self.partitions = tuple(sorted(partitions))
        super().__init__(f"the log is shorter than what was read of partitions {self.partitions}")


OnAssigned = Callable[[list[int]], Awaitable[Mapping[int, int | None]]]
OnRevoked = Callable[[list[int]], Awaitable[None]]

_REFUSED = (
    kafka.MessageSizeTooLargeError,
    kafka.RecordListTooLargeError,
    kafka.InvalidTopicError,
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.InvalidSessionTimeoutError,
    kafka.UnsupportedVersionError,
    kafka.IncompatibleBrokerVersion,
)


@contextlib.asynccontextmanager
async def _bounded(deadline_ms: int, doing: str) -> Any:
    """Run the body within the deadline; whatever aiokafka raises leaves as one of our errors."""
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"{doing}: no answer within {deadline_ms} ms") from error
    except kafka.UnknownTopicOrPartitionError as error:
        raise UnknownTopic(f"{doing}: {error}") from error
    except _REFUSED as error:
        raise BrokerRefused(f"{doing}: {error}") from error
    except (kafka.KafkaError, OSError) as error:
        raise BrokerUnavailable(f"{doing}: {error}") from error


# --- topics ---------------------------------------------------------------------------------------
async def ensure_topics(
    bootstrap: str, topics: Mapping[str, int], *, deadline_ms: int = 10_000
) -> dict[str, int]:
    """Create the topics that are missing and wait until each partition has a leader.

    `topics` names the least number of partitions. A topic with fewer gets more where the broker
    can do that (Apache Kafka), else keeps what it has. Returns the numbers that there are.
    Raises BrokerUnavailable, or BrokerRefused when the broker refuses one of them.
    """
    doing = f"topics {', '.join(topics)}"
    async with _bounded(deadline_ms, doing):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=deadline_ms)
        try:
            await admin.start()
            # Replication factor -1: what the broker has as its default.
            new = [NewTopic(name, number, -1) for name, number in topics.items()]
            created = await admin.create_topics(new, timeout_ms=deadline_ms)
            _raise_unless({0, kafka.TopicAlreadyExistsError.errno}, created.topic_errors)
            while short := _short_of(topics, there := await _partitions(admin, topics)):
                if not await _grow(admin, {name: topics[name] for name in short if there[name]}):
                    if all(there.values()):
                        break
                    await asyncio.sleep(RETRY_MS / 1000)
            return there
        finally:
            await admin.close()


def _raise_unless(fine: set[int], topic_errors: Iterable[Sequence[Any]]) -> None:
    for topic, code, *_ in topic_errors:
        if code not in fine:
            raise BrokerRefused(f"topic {topic}: {kafka.for_code(code).__name__}")


def _short_of(wanted: Mapping[str, int], there: Mapping[str, int]) -> list[str]:
    return [name for name, number in wanted.items() if there[name] < number]


async def _partitions(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, int]:
    """How many partitions with a leader each topic has; 0 while it is not there."""
    there = dict.fromkeys(topics, 0)
    for topic in await admin.describe_topics(list(there)):
        leaders = [p["leader"] for p in topic["partitions"]]
        there[topic["topic"]] = len(leaders) if -1 not in leaders else 0
    return there
