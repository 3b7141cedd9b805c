"""How every call to the broker ends: in time, and with one of our own exceptions."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import aiokafka.admin.client
import aiokafka.client
from aiokafka import errors as kafka
from aiokafka.conn import CloseReason
from aiokafka.protocol.metadata import MetadataRequest

from flashgrab.errors import BrokerUnavailable

RETRY_MS = 50  # between two attempts inside one deadline
METADATA_AGE_MS = 2_000  # a topic that was made anew is noticed within this
STOP_MS = 2_000  # a clean stop may take this long, then the connections are just closed

# aiokafka lets each of its metadata requests create missing topics. A broker that lost its topics
# (a restart of the embedded one) would make them anew, with its own number of partitions, before
# ensure_topics can. So only ensure_topics creates; elsewhere a missing topic is UnknownTopic.
_asking_only = partial(MetadataRequest, allow_auto_topic_creation=False)
aiokafka.client.MetadataRequest = _asking_only
aiokafka.admin.client.MetadataRequest = _asking_only


class UnknownTopic(BrokerUnavailable):
    """The broker answers but has no such topic (any more): call ensure_topics, then go on."""


class BrokerRefused(BrokerUnavailable):
    """The broker refuses for a reason that a repeat does not change (size, authorisation)."""

    retriable = False


_REFUSALS = (
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
async def bounded(deadline_ms: int, doing: str) -> AsyncIterator[None]:
    """Run the body within the deadline; what aiokafka raises leaves as BrokerUnavailable."""
    try:
        async with asyncio.timeout(deadline_ms / 1000):
            yield
    except TimeoutError as error:
        raise BrokerUnavailable(f"{doing}: not done within {deadline_ms} ms") from error
    except (kafka.KafkaError, OSError) as error:
        raise translated(error, doing) from error


def translated(error: Exception, doing: str) -> BrokerUnavailable:
    """Our exception for one of aiokafka's; `doing` says what was tried."""
    message = f"{doing}: {str(error) or type(error).__name__}"
    if isinstance(error, kafka.UnknownTopicOrPartitionError):
        return UnknownTopic(message)
    if isinstance(error, _REFUSALS):
        return BrokerRefused(message)
    return BrokerUnavailable(message)


async def ends_well(closing: Coroutine[Any, Any, object], within_ms: int) -> bool:
    """Whether it ended without an exception in time; past it, it is cancelled. Raises nothing.

    In a task of its own, since aiokafka's stop() may raise the CancelledError of one of its tasks.
    """
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=within_ms / 1000)
    if task.done():
        return not task.cancelled() and task.exception() is None
    task.cancel()
    await asyncio.wait({task}, timeout=within_ms / 1000)
    return False


def on_lost_connection(client: Any, note: Callable[[], None]) -> None:
    """Call `note` whenever an aiokafka client loses a connection, before it makes a new one.

    What answers then may be a broker that has lost topics or records. aiokafka tells nobody, and
    goes on with what it knew before: positions, partitions, leaders.
    """
    inherited = client._on_connection_closed  # noqa: SLF001 (there is no other way to hear of it)

    def closed(connection: object, reason: object) -> None:
        inherited(connection, reason)
        if reason not in (CloseReason.SHUTDOWN, CloseReason.IDLE_DROP):
            note()

    client._on_connection_closed = closed  # noqa: SLF001
