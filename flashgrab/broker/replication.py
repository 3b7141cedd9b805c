"""How many copies the broker keeps of a topic, for the doctor."""

from dataclasses import dataclass

from aiokafka import errors as kafka
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from flashgrab.broker.calls import bounded

_IN_SYNC = "min.insync.replicas"


@dataclass(frozen=True, slots=True)
class Replication:
    """`partitions` 0: no such topic. `replicas`: of the partition with the fewest."""

    brokers: int
    partitions: int
    replicas: int
    in_sync_min: int | None
    """None where the broker does not say."""


async def read_replication(bootstrap: str, topic: str, *, deadline_ms: int) -> Replication:
    """Raises BrokerUnavailable."""
    async with bounded(deadline_ms, f"asking about topic {topic}"):
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap, request_timeout_ms=deadline_ms)
        try:
            await admin.start()
            brokers = (await admin.describe_cluster())["brokers"]
            (found,) = await admin.describe_topics([topic])
            copies = [len(partition["replicas"]) for partition in found["partitions"]]
            in_sync = await _in_sync_min(admin, topic) if copies else None
            return Replication(len(brokers), len(copies), min(copies, default=0), in_sync)
        finally:
            await admin.close()


async def _in_sync_min(admin: AIOKafkaAdminClient, topic: str) -> int | None:
    asked = ConfigResource(ConfigResourceType.TOPIC, topic, {_IN_SYNC: None})
    try:
        answers = await admin.describe_configs([asked])
    except kafka.KafkaError:
        return None
    for answer in answers:
        for code, _message, _kind, _name, entries in answer.resources:
            values = {entry[0]: entry[1] for entry in entries}
            if not code and values.get(_IN_SYNC):
                return int(values[_IN_SYNC])
    return None
