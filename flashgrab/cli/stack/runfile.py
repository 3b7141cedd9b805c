"""`run.json`: addresses and process ids of everything that runs (contract §1). No secrets."""

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path

from flashgrab.cli.stack.external import External
from flashgrab.cli.stack.part import Part
from flashgrab.cli.stack.service import Service
from flashgrab.cli.stack.wholefile import write_whole

PARTS = ("gateway", "relay", "worker", "centre", "valkey", "limiter", "kafka", "postgres")

_NUMBER = re.compile(r"-[0-9]+$")


def describe(services: Iterable[Service]) -> dict[str, list[dict[str, object]]]:
    """Lists of objects by part; a part that is down is not in its list."""
    shown: dict[str, list[dict[str, object]]] = {name: [] for name in PARTS}
    shown["up"] = [{"pid": os.getpid()}]
    for service in services:
        kind = _NUMBER.sub("", service.name)  # relay and relay-2 are both in relay's list
        shown.setdefault(kind, []).extend(_objects(service))
    return shown


def write(path: Path, shown: dict[str, list[dict[str, object]]]) -> None:
    """Replace the file at once."""
    write_whole(path, json.dumps(shown, indent=1) + "\n")


def _objects(service: Service) -> list[dict[str, object]]:
    if isinstance(service, External):
        return [dict(service.public)]
    pid = service.pid
    if pid is None:
        return []
    children = service.children() if isinstance(service, Part) else []
    if children:
        return [{"pid": child, "parent": pid, **service.public} for child in children]
    return [{"pid": pid, **service.public}]
