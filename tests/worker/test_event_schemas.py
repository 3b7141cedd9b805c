"""docs/events/ against what relay and worker really send and take."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from flashgrab import keys
from flashgrab.broker.records import Record
from flashgrab.clock import from_rfc3339
from flashgrab.events import OutboxEntry
from flashgrab.ledger.facts import Grant
from flashgrab.ledger.letters import Letter, Unpublished
from worker.dead import record_of
from worker.forms import Reason, judge
from worker.messages import messages
from worker.topics import TOPICS

EVENTS = Path(__file__).parent.parent.parent / "docs" / "events"
ASYNCAPI = json.loads((EVENTS / "asyncapi.json").read_text(encoding="utf-8"))
FACT = json.loads((EVENTS / "grabs.schema.json").read_text(encoding="utf-8"))
ENTRY = OutboxEntry(
    7, 9, 3, 1_790_000_000_123, "g,5,2,u@1,,!x;g,6,1,bob,dev-1,my-key;r,5,2,u@1,,!x"
)
TYPES: dict[str, Any] = {"object": dict, "string": str, "integer": int}
DESCRIBE = {"$schema", "$id", "title", "description", "format", "contentMediaType"}


def resolve(ref: str) -> Any:
    """What a reference of the document leads to."""
    if ref == "./grabs.schema.json":
        return FACT
    found = ASYNCAPI
    for step in ref.removeprefix("#/").split("/"):
        found = found[step]
    return found


PLAIN: dict[str, Callable[[Any, Any], bool]] = {
    "const": lambda value, wanted: value == wanted,
    "enum": lambda value, wanted: value in wanted,
    "pattern": lambda value, wanted: bool(re.fullmatch(wanted[1:-1], value, re.ASCII)),
    "minimum": lambda value, wanted: value >= wanted,
    "exclusiveMaximum": lambda value, wanted: value < wanted,
    "required": lambda value, wanted: set(wanted) <= value.keys(),
}


def wrong(value: Any, schema: dict[str, Any]) -> list[str]:
    """JSON Schema, as far as these documents use it; any other keyword is an error."""
    kind = TYPES.get(schema.get("type", ""))
    if kind and (not isinstance(value, kind) or isinstance(value, bool)):
        return [f"{value!r} is no {schema['type']}"]
    problems = []
    for keyword, wanted in schema.items():
        if keyword in PLAIN:
            good = PLAIN[keyword](value, wanted)
            problems += [] if good else [f"{value!r}: {keyword} {wanted}"]
        elif keyword == "properties":
            for name in wanted.keys() & value.keys():
                problems += wrong(value[name], wanted[name])
        elif keyword in ("$ref", "allOf"):
            for each in [resolve(wanted)] if keyword == "$ref" else wanted:
                problems += wrong(value, each)
        else:
            assert keyword in DESCRIBE | {"type"}, keyword
    return problems


def described(channel: str, record: Record) -> str:
    """The one message of a channel that a record is, by headers, key and value."""
    headers = {name: text.decode() for name, text in record.headers}
    names = []
    for name, ref in ASYNCAPI["channels"][channel]["messages"].items():
        message = resolve(ref["$ref"])
        problems = wrong(headers, message["headers"])
        if "schema" in message["payload"]:
            problems += wrong(json.loads(record.value), message["payload"]["schema"])
            problems += wrong(record.key.decode(), message["bindings"]["kafka"]["key"])
        unknown = headers.keys() - resolve(message["headers"]["$ref"])["properties"].keys()
        if not problems and not unknown:
            names.append(name)
    (name,) = names
    return str(name)


def test_what_the_relay_sends_is_what_the_documents_say() -> None:
    """Granted and returned facts of a real outbox entry, headers and key included."""
    records = messages("c-1", ENTRY)
    assert [described("grabs", record) for record in records] == ["granted", "granted", "returned"]
    for record in records:
        assert json.loads(record.value).keys() == FACT["properties"].keys()
        assert from_rfc3339(dict(record.headers)["ce_time"].decode()) == ENTRY.at_ms


@pytest.mark.parametrize("reason", get_args(Reason))
def test_dead_letters_are_what_the_documents_say(reason: Reason) -> None:
    """Every reason, with and without a place, and one that is cut."""
    for value, place in ((b"\xff", (None, None)), (b"x" * 600_000, ("c1", 7))):
        letter = Letter(reason, "why", b"\xfe", value, *place)
        record = record_of(Unpublished(letter.digest, letter, 5))
        assert described("dead", record) == "letter"
        headers = dict(record.headers)
        assert headers.get("bytes") == (b"600000" if len(value) > 1 else None)
        assert json.loads(headers["place"]) == dict(
            zip(("campaign_id", "seq", "at_ms"), (*place, 5), strict=True)
        )


def test_every_reason_of_a_dead_letter_is_named() -> None:
    """The enum of the document is the closed list of the worker."""
    reasons = ASYNCAPI["components"]["schemas"]["letterHeaders"]["properties"]["reason"]["enum"]
    assert sorted(reasons) == sorted(get_args(Reason))


def test_topics_are_those_of_the_product() -> None:
    """Names, and the partitions that relay and worker make."""
    shown = {
        channel["address"]: channel["bindings"]["kafka"]["partitions"]
        for channel in ASYNCAPI["channels"].values()
    }
    assert shown == TOPICS
    assert set(shown) == {keys.GRABS_TOPIC, keys.DEAD_TOPIC}


ODD: list[tuple[str, Any]] = [
    ("event", "grab.eaten"), ("version", 2), ("seq", 0), ("seq", 10**14), ("seq", 10**14 - 1),
    ("seq", "7"), ("seq", 7.5), ("seq", True), ("grab_id", "c-1"), ("campaign_id", "C"),
    ("campaign_id", "c" * 48), ("serial", -1), ("user_id", ""), ("user_id", "a b"),
    ("user_id", "a" * 64), ("user_id", "a" * 65), ("user_id", "ä"), ("device_id", ""),
    ("device_id", "d" * 65), ("device_id", None), ("round", 2**31), ("round", 2**31 - 1),
    ("request_id", "!"), ("request_id", "!!x"), ("request_id", "x@y"), ("request_id", "x" * 64),
    ("epoch", 0), ("at_ms", 0), ("at_ms", -1), ("at_ms", 10**14),
]  # fmt: skip


@pytest.mark.parametrize("field, value", ODD)
def test_the_schema_and_the_worker_agree(field: str, value: Any) -> None:
    """What the schema calls a fact the worker takes, and nothing else."""
    fact = json.loads(messages("c-1", ENTRY)[0].value)
    fact[field] = value
    if field in ("campaign_id", "serial"):
        fact["grab_id"] = f"{fact['campaign_id']}-{fact['serial']}"
    taken = isinstance(judge(b"", json.dumps(fact).encode()), Grant)
    if field == "grab_id":  # a schema cannot compare two fields
        assert (wrong(fact, FACT), taken) == ([], False)
    else:
        assert (not wrong(fact, FACT)) is taken


@pytest.mark.parametrize("field", sorted(set(FACT["required"]) - {"version"}))
def test_no_field_may_be_missing(field: str) -> None:
    """But for the version, which is 1 where nothing is said."""
    fact = json.loads(messages("c-1", ENTRY)[0].value)
    del fact[field]
    assert wrong(fact, FACT)
    assert isinstance(judge(b"", json.dumps(fact).encode()), Letter)


def test_every_reference_leads_somewhere() -> None:
    """And every component is used."""
    text = json.dumps(ASYNCAPI)
    referred = set(re.findall(r'"\$ref": "([^"]+)"', text))
    for ref in referred:
        assert resolve(ref)
    components = ASYNCAPI["components"]
    made = {f"#/components/{kind}/{name}" for kind in components for name in components[kind]}
    assert made == {ref for ref in referred if ref.startswith("#/components/")}
