"""States to begin with, and the one way that the tests of grab.lua call it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from flashgrab import keys
from flashgrab.outcomes import Verdict
from flashgrab.scripts import GRAB, Script
from tests.lua.server import Client, State

ID = "c-1"
CAMPAIGN, HOLDERS = keys.campaign(ID), keys.holders(ID)
DEVICES, OUTBOX = keys.devices(ID), keys.outbox(ID)
R1, R2, R3 = (keys.round_(ID, n) for n in (1, 2, 3))
HOUR_MS = 3_600_000

Request = tuple[str, str, str]
"""User, device, request id."""


def campaign(**fields: object) -> dict[str, str]:
    """The hash of a campaign as publish.lua leaves it, some fields otherwise."""
    plain = {
        "schema": 1, "epoch": 1, "run": "run-1", "generation": 1, "version": 1,
        "status": "PUBLISHED", "operation": "op-1", "definition": "{}", "per_user": 1,
        "per_device": 0, "outbox_max": 1000, "rounds": 1, "serial": 0, "seq": 0, "watermark": 0,
        "holes": "",
    }  # fmt: skip
    return {name: str(value) for name, value in (plain | fields).items()}


def round_(opens_at: int, closes_at: int, quota: int = 10, granted: int = 0) -> dict[str, str]:
    """The hash of a round, books balanced."""
    row = {
        "opens_at": opens_at, "closes_at": closes_at, "quota": quota, "left": quota - granted,
        "granted": granted, "returned": 0,
    }  # fmt: skip
    return {name: str(value) for name, value in row.items()}


def entry(
    first: int, last: int, facts: str, at_ms: int = 1, epoch: int = 1
) -> tuple[str, dict[str, str]]:
    """An entry of the outbox."""
    row = {"first": str(first), "epoch": str(epoch), "at_ms": str(at_ms), "facts": facts}
    return f"{last}-0", row


def open_now(redis: Client, quota: int = 10, granted: int = 0, **fields: object) -> State:
    """A campaign with one round that is open for another hour."""
    now_ms = redis.now_ms()
    return {
        CAMPAIGN: campaign(**fields),
        R1: round_(now_ms - HOUR_MS, now_ms + HOUR_MS, quota, granted),
    }


def changed(state: State, updates: Mapping[str, Any]) -> State:
    """The state with some fields of hashes, or whole streams, otherwise."""
    after = deepcopy(state)
    for key, update in updates.items():
        before = after.get(key)
        if isinstance(update, dict):
            fields = {name: str(value) for name, value in update.items()}
            after[key] = (before if isinstance(before, dict) else {}) | fields
        else:
            after[key] = update
    return dict(sorted(after.items()))


@dataclass(frozen=True)
class Reply:
    """What grab.lua returned."""

    verdict: Verdict
    epoch: int
    generation: int
    seq: int
    now_ms: int
    round: int
    left: int
    results: list[int | str]


def grab(
    redis: Client,
    *requests: Request,
    number: int = 1,
    schema: str = "1",
    epoch: int = 1,
    run: str = "run-1",
    floor: int = 0,
    script: Script | str = GRAB,
) -> Reply:
    """Call it as a gateway does that knows every round of the campaign."""
    times = _times(redis)
    following = number + 1 if number < len(times) else number
    touched = [CAMPAIGN, HOLDERS, DEVICES, OUTBOX]
    touched += [keys.round_(ID, number), keys.round_(ID, following)]
    after_ms = times[number - 2] if number > 1 else 0
    args: list[Any] = [schema, epoch, run, floor, number, after_ms, times[-1] if times else 0]
    for request in requests:
        args += request
    verdict, epoch, generation, seq, now_ms, current, left, *results = redis.script(
        script, touched, args
    )
    return Reply(Verdict(verdict), epoch, generation, seq, now_ms, current, left, results)


def _times(redis: Client) -> Sequence[int]:
    """The ends of the rounds."""
    rows = redis.many([("HGET", keys.round_(ID, n), "closes_at") for n in (1, 2, 3)])
    return [int(end) for end in rows if end]
