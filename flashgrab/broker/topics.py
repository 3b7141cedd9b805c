"""Topics: made once, looked up by everyone."""

import asyncio
from collections.abc import Iterable, Mapping

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from flashgrab.broker.calls import RETRY_MS, bounded, translated

_BROKERS_DEFAULT = -1  # replication factor: as the broker is configured


async def ensure_topics(
    bootstrap: str, topics: Mapping[str, int], *, deadline_ms: int = 10_000
) -> dict[str, int]:
    """Create the topics that are missing and wait until each of their partitions has a leader.

    `topics` names the least number of partitions. A topic with fewer gets more where the broker
    can do that (Apache Kafka), else it keeps what it has. Returns how many there are now.
    Raises BrokerUnavailable; BrokerRefused when the broker refuses a topic for good.
    """
    async with bounded(deadline_ms, f"ensuring topics {', '.join(topics)}"):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=deadline_ms)
        try:
            await admin.start()
            await _create(admin, topics)
            there = await _settled(admin, topics)
            short = {name: wanted for name, wanted in topics.items() if there[name] < wanted}
            if short and await _grown(admin, short):
                there = await _settled(admin, topics, least=topics)
            return there
        finally:
            await admin.close()


async def _create(admin: AIOKafkaAdminClient, topics: Mapping[str, int]) -> None:
    # The empty assignment is what makes aiokafka take the broker's default.
    new = [NewTopic(name, number, _BROKERS_DEFAULT, {}) for name, number in topics.items()]
    answer = await admin.create_topics(new)
    for topic, code, *_ in answer.topic_errors:
        if code not in (0, kafka.TopicAlreadyExistsError.errno):
            raise translated(kafka.for_code(code)(), f"creating topic {topic}")


async def _grown(admin: AIOKafkaAdminClient, short: Mapping[str, int]) -> bool:
    """Ask for more partitions. False where the broker has no such call."""
    wanted = {name: NewPartitions(partitions) for name, partitions in short.items()}
    try:
        await admin.create_partitions(wanted)
    except kafka.IncompatibleBrokerVersion:
        return False
    except kafka.InvalidPartitionsError:
        return True  # somebody else was quicker
    return True


async def _settled(
    admin: AIOKafkaAdminClient, topics: Iterable[str], least: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Wait until every topic has at least `least` partitions, each with a leader."""
    least = least or dict.fromkeys(topics, 1)
    while True:
        there = dict.fromkeys(topics, 0)
        for topic in await admin.describe_topics(list(there)):
            leaders = [partition["leader"] for partition in topic["partitions"]]
            there[topic["topic"]] = 0 if -1 in leaders else len(leaders)
        if all(there[name] >= least[name] for name in there):
            return there
        await asyncio.sleep(RETRY_MS / 1000)
