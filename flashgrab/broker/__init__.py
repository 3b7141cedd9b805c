"""The only adapter to Kafka: topics, a disposable producer, a group consumer, reading by offset.

Every call ends: it has a deadline of its own, in milliseconds, and raises BrokerUnavailable past
it; aiokafka's retries run inside that deadline. Nothing here decides what a record means, and
offsets are the caller's: the consumer starts where it is told to.
"""

from flashgrab.broker.batch import Packed, pack, packed_headers, varint
from flashgrab.broker.calls import BrokerRefused, UnknownTopic
from flashgrab.broker.consumer import Consumer, OffsetLost
from flashgrab.broker.producer import Producer
from flashgrab.broker.records import Headers, Received, Record, Records, fingerprint
from flashgrab.broker.topic_log import TopicLog
from flashgrab.broker.topics import ensure_topics

__all__ = [
    "BrokerRefused",
    "Consumer",
    "Headers",
    "OffsetLost",
    "Packed",
    "Producer",
    "Received",
    "Record",
    "Records",
    "TopicLog",
    "UnknownTopic",
    "ensure_topics",
    "fingerprint",
    "pack",
    "packed_headers",
    "varint",
]
