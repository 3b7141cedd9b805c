"""The campaigns that both gateways know: one in each state that a grab can find."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from flashgrab import keys
from flashgrab.passes import Pass, PassKeys
from flashgrab.scripts import PUBLISH, SCHEMA
from tests.gateway.serving import HOUR_MS, PASS_KEYS
from tests.lua.server import Client, Valkey

FAR_MS = 4_102_444_800_000
"""2100-01-01: passes of the table are the same bytes in every run."""
PAST_MS = 1_577_836_800_000
LONG_ID = "long" + "x" * 44
"""48 characters, the most that a campaign id may have."""
QUOTA = 1_000_000
OPEN = (-1000, HOUR_MS * 3, QUOTA)
NEXT = (4 * HOUR_MS, 5 * HOUR_MS, 10)
OVER = (-3 * HOUR_MS, -2 * HOUR_MS, 5)
SOON = (2 * HOUR_MS, 3 * HOUR_MS, 5)

Rounds = Sequence[tuple[int, int, int]]

CAMPAIGNS: dict[str, tuple[int, int, Rounds, Mapping[str, Any]]] = {
    "open": (1, 0, [OPEN], {}),
    "z": (1, 0, [OPEN], {}),
    LONG_ID: (1, 0, [OPEN], {}),
    "three": (3, 0, [OPEN], {}),
    "device": (5, 1, [OPEN], {}),
    "sold-out": (1, 0, [OPEN], {}),
    "sold-next": (2, 0, [OPEN, NEXT], {}),
    "soon": (1, 0, [SOON], {}),
    "between": (2, 0, [OVER, SOON], {}),
    "ended": (1, 0, [OVER], {}),
    "paused": (1, 0, [OPEN], {"status": "PAUSED"}),
    "offline": (1, 0, [OPEN], {"status": "OFFLINE"}),
    "other-run": (1, 0, [OPEN], {"run": "another"}),
    "other-schema": (1, 0, [OPEN], {"schema": "9"}),
    "busy": (2, 0, [OPEN], {"outbox_max": 0}),
}
"""Campaign → per_user, per_device, rounds from the world's start, fields changed afterwards."""
SOLD_OUT = ("sold-out", "sold-next")
MISSING = "missing"
"""Registered, but without a key."""
HOLDERS = {
    "winner": "1,1,1,g,win;",  # below the watermark: PERSISTED
    "second": "2,2,1,g,win;",
    "returner": "3,3,1,r,back;",
}
SEQ = 3

_KEYS = PassKeys.parse(PASS_KEYS)


@cache
def token(campaign_id: str, user: str, device: str = "", expires_ms: int = FAR_MS) -> str:
    """A pass that both gateways take; ids of any form, for the forms that none may have too."""
    return _KEYS.sign(Pass(campaign_id, user, device, expires_ms))


class World:
    """One server with all campaigns; both servers get the same, to the millisecond."""

    def __init__(self, redis: Valkey, start_ms: int) -> None:
        self.redis = Client(redis.path)
        self._start_ms = start_ms
        self._read = dict.fromkeys(CAMPAIGNS, f"{SEQ}-0")

    def close(self) -> None:
        self.redis.close()

    def create(self) -> None:
        """Empty the server and put every campaign in."""
        self.redis.call("FLUSHALL")
        info = self.redis.call("INFO", "server")
        run = next(line[7:] for line in info.splitlines() if line.startswith("run_id:"))
        for name, (per_user, per_device, rounds, fields) in CAMPAIGNS.items():
            touched = [keys.campaign(name), *(keys.round_(name, n + 1) for n in range(len(rounds)))]
            definition = '{"name":"A test","rule":{"kind":"amount_off","amount":1,"threshold":2}}'
            args: list[Any] = [SCHEMA, 1, run, 1, "op", definition, per_user, per_device, 10**7]
            for opens, closes, quota in rounds:
                args += [self._start_ms + opens, self._start_ms + closes, quota]
            assert self.redis.script(PUBLISH, touched, args)[0] == 0
            state = {"serial": SEQ, "seq": SEQ, "watermark": 1, **fields}
            self.redis.call("HSET", touched[0], *_flat(state))
            self.redis.call("HSET", keys.holders(name), *_flat(HOLDERS))
            self.redis.call("HSET", keys.devices("device"), "tablet", 1)
            if name in SOLD_OUT:
                self.redis.call("HSET", touched[1], *_flat({"left": 0, "quota": 3, "granted": 3}))
        self.redis.call("SADD", keys.REGISTRY, *CAMPAIGNS, MISSING)

    def facts(self) -> dict[str, list[str]]:
        """What was granted since the last reading; the gateways' own request ids without their
        random part. The last line of each campaign is what it counts now."""
        reads: list[tuple[str, ...]] = [
            ("XRANGE", keys.outbox(name), f"({last}", "+") for name, last in self._read.items()
        ]
        counts = [("HMGET", keys.campaign(name), "serial", "seq", "status") for name in self._read]
        replies = self.redis.many([*reads, *counts])
        found = {}
        for name, entries, count in zip(
            self._read, replies[: len(reads)], replies[len(reads) :], strict=True
        ):
            if entries:
                self._read[name] = entries[-1][0]
            facts = [
                fact for _, flat in entries for fact in flat[flat.index("facts") + 1].split(";")
            ]
            found[name] = [_without_own_id(fact) for fact in facts] + [",".join(count)]
        return found


def level(*worlds: World) -> None:
    """After a difference: let all count on from the same serials, so that one case fails alone."""
    for name in CAMPAIGNS:
        key = keys.campaign(name)
        counts = [w.redis.call("HMGET", key, "serial", "seq") for w in worlds]
        serial, seq = (max(int(count[n]) for count in counts) for n in (0, 1))
        for world in worlds:
            world.redis.call("HSET", key, "serial", serial, "seq", seq)


def _without_own_id(fact: str) -> str:
    head, _, request_id = fact.rpartition(",")
    return f"{head},{'!' if request_id.startswith('!') else request_id}"


def _flat(fields: Mapping[str, Any]) -> list[Any]:
    return [part for pair in fields.items() for part in pair]
