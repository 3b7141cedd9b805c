"""The Lua scripts: their texts, hashes, and the names of their keys and arguments.

One loader finds them inside the package (the wheel), else in the checkout's lua/. A test holds
the names here against the header and the body of each script.
"""

from dataclasses import dataclass, field
from functools import cached_property
from hashlib import sha1
from pathlib import Path

PACKAGED = Path(__file__).parent / "lua"
CHECKOUT = Path(__file__).parent.parent / "lua"

SCHEMA = "1"
"""The form of a campaign's keys that a new campaign gets, unless the centre is told another."""
READS = ("1",)
"""The forms that these scripts know. A release that brings a new form N reads it and N - 1, and
writes N - 1 until the operator says that no older release runs any more (docs/upgrades.md)."""


@dataclass(frozen=True)
class Script:
    """A script by its verb. A trailing … in keys or args marks what repeats."""

    name: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    repeats: tuple[str, ...] = field(default=())

    @cached_property
    def text(self) -> str:
        folder = PACKAGED if PACKAGED.is_dir() else CHECKOUT
        return (folder / f"{self.name}.lua").read_text(encoding="utf-8")

    @cached_property
    def sha(self) -> str:
        return sha1(self.text.encode(), usedforsecurity=False).hexdigest()


GRAB = Script(
    "grab",
    keys=("campaign", "holders", "devices", "outbox", "round", "next_round"),
    args=("schema", "epoch", "run", "floor", "number", "after_ms", "last_ms"),
    repeats=("user", "device", "request_id"),
)
PUBLISH = Script(
    "publish",
    keys=("campaign", "round…"),
    args=(
        *("schema", "epoch", "run", "version", "operation", "definition"),
        *("per_user", "per_device", "outbox_max"),
    ),
    repeats=("opens_at", "closes_at", "quota"),
)
APPLY = Script(
    "apply",
    keys=("campaign", "round…"),
    args=("epoch", "version", "operation", "status"),
    repeats=("quota",),
)
RETURN = Script(
    "return",
    keys=("campaign", "holders", "devices", "outbox", "round"),
    args=("schema", "epoch", "run", "floor", "serial", "number", "user", "device"),
)
SETTLE = Script("settle", keys=("campaign", "outbox"), args=("epoch", "watermark", "holes"))
CONFIRM = Script("confirm", keys=("campaign",), args=("epoch", "seq_min", "run"))
LEASE = Script("lease", keys=("lease",), args=("holder", "epoch", "lease_ms"))
BOOKS = Script("books", keys=("campaign", "outbox", "round…"), args=("watermark", "entries_max"))
FENCE = Script("fence", keys=("campaign",), args=("epoch", "run"))
STAGE = Script(
    "stage",
    keys=("staged", "holders", "devices"),
    args=("epoch", "page"),
    repeats=("name", "value"),
)
REBUILD = Script(
    "rebuild",
    keys=(
        *("campaign", "holders", "devices", "outbox"),
        *("staged", "new_holders", "new_devices", "round…"),
    ),
    args=(
        *("schema", "epoch", "run", "version", "operation", "definition"),
        *("per_user", "per_device", "outbox_max", "status", "seq", "users", "devices_n"),
    ),
    repeats=("opens_at", "closes_at", "quota", "granted", "returned"),
)
LIMIT = Script(
    "limit",
    keys=("limit…",),
    args=("policies", "of", "slots", "counts", "places"),
)
"""On the limiter's server, never on the stock's."""

ALL = (GRAB, PUBLISH, APPLY, RETURN, SETTLE, CONFIRM, LEASE, BOOKS, FENCE, STAGE, REBUILD, LIMIT)
