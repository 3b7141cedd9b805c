"""The events' documents against the code that writes them, and real messages of a broker."""

import asyncio
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.structs import ConsumerRecord
from cloudevents.core.bindings.kafka import KafkaMessage, from_binary
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from jsonschema import Draft7Validator, FormatChecker
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from flashgrab import keys
from flashgrab.events import KINDS, Fact
from tests.docs.conftest import Services
from tests.e2e.buyers import Buyer
from tests.e2e.running import Stack, simple, until

EVENTS = Path(__file__).parents[2] / "docs" / "events"
ASYNCAPI: dict[str, Any] = json.loads((EVENTS / "asyncapi.json").read_text(encoding="utf-8"))
FACT: dict[str, Any] = json.loads((EVENTS / "grabs.schema.json").read_text(encoding="utf-8"))
CACHE = Path(__file__).parents[2] / ".cache" / "asyncapi"
SPECS = "@asyncapi/specs@6.10.0"
REGISTRY: Registry[Any] = Registry().with_resources(
    [
        ("urn:flashgrab:asyncapi", DRAFT7.create_resource(ASYNCAPI)),
        ("./grabs.schema.json", Resource.from_contents(FACT)),
        ("grabs.schema.json", Resource.from_contents(FACT)),
    ]
)


def wrong(schema: dict[str, Any], value: Any) -> list[str]:
    """What JSON Schema has against a value."""
    validator = Draft7Validator(schema, registry=REGISTRY, format_checker=FormatChecker())
    return [error.message for error in validator.iter_errors(value)]


def test_the_schema_has_the_fields_of_the_code() -> None:
    """Names, order, kinds of JSON and the list of events are those of flashgrab/events.py."""
    written = msgspec.json.schema(Fact)["$defs"]["Fact"]
    assert list(FACT["properties"]) == list(written["properties"])
    assert FACT["properties"]["event"]["enum"] == sorted(KINDS.values())
    assert set(FACT["required"]) == set(written["properties"])
    for name, described in FACT["properties"].items():
        if "type" in described:
            assert described["type"] == written["properties"][name]["type"], name


def test_the_schemas_are_schemas() -> None:
    """By the rules of draft 7, to which they say that they belong."""
    Draft7Validator.check_schema(FACT)
    for schema in ASYNCAPI["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


def test_the_document_is_asyncapi_3() -> None:
    """By the schema that the AsyncAPI project publishes; skipped where it can't be fetched."""
    specification = json.loads(published_schema().read_text(encoding="utf-8"))
    errors = Draft7Validator(specification).iter_errors(ASYNCAPI)
    assert [error.message for error in errors] == []
    broken = ASYNCAPI | {"channels": {"grabs": {"adress": "x"}}}
    assert list(Draft7Validator(specification).iter_errors(broken))


def published_schema() -> Path:
    """Of the version that the document says, from the project's npm package, kept in .cache/."""
    file = CACHE / f"{ASYNCAPI['asyncapi']}.json"
    if file.exists():
        return file
    if shutil.which("npm") is None:
        pytest.skip("no npm here to fetch the schema of AsyncAPI with")
    CACHE.mkdir(parents=True, exist_ok=True)
    command = ["npm", "pack", "--silent", SPECS]
    done = subprocess.run(
        command, cwd=CACHE, capture_output=True, text=True, timeout=90, check=False
    )
    if done.returncode:
        pytest.skip(f"{SPECS} can't be fetched: {done.stderr.strip()[-200:]}")
    package = CACHE / done.stdout.strip()
    with tarfile.open(package) as archive:
        member = archive.extractfile(f"package/schemas/{file.name}")
        assert member is not None
        file.write_bytes(member.read())
    package.unlink()
    return file


@pytest.mark.xdist_group("stack")
@pytest.mark.parametrize("service", ["gateway", "centre"])
def test_the_documents_are_served(service: str, services: Services) -> None:
    """As they are in the repository, beside each other, so that their references hold."""
    for path in EVENTS.glob("*.json"):
        answer = services[service].get(f"/docs/events/{path.name}")
        assert (answer.status_code, answer.content) == (200, path.read_bytes())
        assert answer.headers["content-type"] == "application/json"
    assert services[service].get("/docs/events/none.json").status_code == 404


@pytest.mark.xdist_group("stack")
def test_real_messages_are_what_the_documents_say(running_stack: Stack) -> None:
    """Grants and a return, read from the broker: JSON Schema for the value, the document for the
    headers, and the CloudEvents library for what both make together."""
    campaign_id = running_stack.campaign(simple("told-in-kafka", quota=3))
    buyers = [Buyer.enter(running_stack, campaign_id, name) for name in ("ann", "bob", "cy")]
    for buyer in buyers:
        assert buyer.grab("k").status_code == 201
    until("the ledger has it", lambda: buyers[0].state(f"{campaign_id}-1") == "PERSISTED")
    back = running_stack.command("campaign", "return", f"{campaign_id}-1")
    assert back.returncode == 0, back.stderr
    bootstrap = running_stack.run_json()["kafka"][0]["bootstrap"]
    records = asyncio.run(read(bootstrap, campaign_id, 4))
    kinds = [check(record) for record in records]
    assert sorted(kinds) == ["grab.granted"] * 3 + ["grab.returned"]


def check(record: "ConsumerRecord[bytes, bytes]") -> str:
    """One message against all that describes it; which event it is."""
    headers = {name: value.decode() for name, value in record.headers}
    fact = json.loads(record.value or b"")
    kind = str(fact["event"])
    said = "granted" if kind == "grab.granted" else "returned"
    assert wrong(FACT, fact) == []
    assert wrong(ASYNCAPI["components"]["schemas"][f"{said}Headers"], headers) == []
    message = KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value or b"")
    event = from_binary(message, JSONFormat(), CloudEvent)
    assert event.get_type() == f"io.flashgrab.{kind}.v1"
    assert event.get_specversion() == "1.0"
    assert event.get_id() == f"{fact['campaign_id']}-{fact['epoch']}-{fact['seq']}"
    assert event.get_data() == fact
    time = event.get_time()
    assert time is not None
    assert round(time.timestamp() * 1000) == fact["at_ms"]
    return kind


async def read(
    bootstrap: str, campaign_id: str, count: int
) -> "list[ConsumerRecord[bytes, bytes]]":
    """This campaign's messages; a topic from its beginning to where it ends now."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    await consumer.start()
    try:
        parts = consumer.partitions_for_topic(keys.GRABS_TOPIC) or set()
        places = [TopicPartition(keys.GRABS_TOPIC, part) for part in parts]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        found: list[ConsumerRecord[bytes, bytes]] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    found += [
                        r for r in records if json.loads(r.value)["campaign_id"] == campaign_id
                    ]
        return found
    finally:
        await consumer.stop()
