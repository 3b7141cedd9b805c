"""What a system keeps in Redis: how its stock is put there, and how its books are checked.

Setting up a campaign is the centre's work elsewhere; on the bare Valkey of a benchmark it is the
same script (lua/publish.lua), called by hand.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from bench.passes import CAMPAIGN
from bench.processes import ROOT, require

HOUR_MS = 3_600_000
PAGE = 1000
STOCK, HOLDERS, OUTBOX = "{bench}:stock", "{bench}:holders", "{bench}:outbox"
ONE = ROOT / "bench" / "one.lua"

Ask = Callable[..., Any]
"""One Redis command: its words in, its reply out."""


class Books(Protocol):
    """One way of keeping stock, holders and outbox."""

    replays: bool
    """Whether the same key again is answered with the same grab, and not refused."""

    def prepare(self, ask: Ask, quota: int) -> None:
        """Put a stock into an empty Valkey."""
        ...

    def granted(self, ask: Ask) -> int:
        """How many have been granted so far."""
        ...

    def check(self, ask: Ask, quota: int) -> None:
        """Hold counters, holders and outbox against each other. Raises BadRun."""
        ...


def publish(
    ask: Ask,
    campaign: str,
    quota: int,
    durability: str = "fsync",
    limits: Mapping[str, str] | None = None,
) -> None:
    """A campaign that is open for an hour, one coupon a user. Raises BadRun."""
    seconds, micros = ask("TIME")
    opens_at = int(seconds) * 1000 + int(micros) // 1000
    run = ask("INFO", "server")["run_id"]
    shown = {"name": "Bench", "rule": {}, "durability": durability, "limits": limits}
    definition = json.dumps(shown)
    schema = "1"
    args: list[str | int] = [schema, 1, run, 1, "bench", definition, 1, 0, 10_000_000]
    args += [opens_at, opens_at + HOUR_MS, quota]
    script = (ROOT / "lua" / "publish.lua").read_text()
    reply = ask("EVAL", script, 2, f"{{c:{campaign}}}", f"{{c:{campaign}}}:r:1", *args)
    require(reply == [0], f"publish.lua answered {reply}")
    ask("SADD", "flashgrab:campaigns", campaign)


class CampaignBooks:
    """A campaign as lua/README.md has it: ours, and that of the reference with our script."""

    def __init__(
        self,
        *,
        replays: bool,
        durability: str = "fsync",
        limits: Mapping[str, str] | None = None,
    ) -> None:
        self.replays = replays
        self._durability = durability
        self._limits = limits

    def prepare(self, ask: Ask, quota: int) -> None:
        publish(ask, CAMPAIGN, quota, self._durability, self._limits)

    def granted(self, ask: Ask) -> int:
        return int(ask("HGET", _key(":r:1"), "granted"))

    def check(self, ask: Ask, quota: int) -> None:
        campaign = _numbers(ask("HMGET", _key(), "serial", "seq"))
        left, granted = _numbers(ask("HMGET", _key(":r:1"), "left", "granted"))
        require(left + granted == quota, f"left {left} + granted {granted} is not {quota}")
        require(campaign == [granted, granted], f"serial, seq {campaign} are not {granted}")
        holders = ask("HLEN", _key(":holders"))
        require(holders == granted, f"{holders} holders of {granted} coupons")
        serial = 0
        for entry_id, fields in _entries(ask, _key(":outbox")):
            require(int(fields["first"]) == serial + 1, f"a gap in the outbox before {entry_id}")
            for fact in fields["facts"].split(";"):
                serial += 1
                require(fact.startswith(f"g,{serial},"), f"fact {serial} is {fact}")
            require(entry_id == f"{serial}-0", f"entry {entry_id} ends with fact {serial}")
        require(serial == granted, f"{serial} facts in the outbox of {granted} coupons")


class OneBooks:
    """What bench/one.lua keeps: the references that ask one command a request."""

    replays = False

    def prepare(self, ask: Ask, quota: int) -> None:
        ask("HSET", STOCK, "left", quota, "granted", 0)

    def granted(self, ask: Ask) -> int:
        return int(ask("HGET", STOCK, "granted"))

    def check(self, ask: Ask, quota: int) -> None:
        left, granted = _numbers(ask("HMGET", STOCK, "left", "granted"))
        require(left + granted == quota, f"left {left} + granted {granted} is not {quota}")
        holders, entries = ask("HLEN", HOLDERS), ask("XLEN", OUTBOX)
        require(holders == entries == granted, f"{holders} holders, {entries} entries: {granted}")


def _key(rest: str = "") -> str:
    return f"{{c:{CAMPAIGN}}}{rest}"


def _numbers(reply: list[str]) -> list[int]:
    return [int(number) for number in reply]


def _entries(ask: Ask, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    start = "-"
    while page := ask("XRANGE", stream, start, "+", "COUNT", PAGE):
        yield from page
        start = f"({page[-1][0]}"
