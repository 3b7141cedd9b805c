"""A gateway for pages: `flashgrab gateway` with the demo's identities, over a Valkey of its own."""

import json
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from flashgrab import keys, scripts
from flashgrab.scripts import PUBLISH, SETTLE
from tests.gateway.process import Running, environment, running, until
from tests.gateway.serving import HOUR_MS
from tests.lua.server import Client, Valkey, valkey

RULE = {"kind": "amount_off", "amount": 3000, "threshold": 20000}


class Sales:
    """Campaigns of one gateway."""

    def __init__(self, server: Valkey, gateway: Running, origins: Sequence[str] = ()) -> None:
        self.server = server
        self.origins = origins
        self.gateway = gateway
        self.url = gateway.url
        self.redis = Client(server.path)

    def publish(
        self,
        *,
        name: str = "Spring sale: 30 off 200",
        quota: int = 100,
        opens_ms: int = -1000,
        per_user: int = 1,
        rounds: Sequence[tuple[int, int, int]] | None = None,
        **definition: Any,
    ) -> str:
        """A campaign that the gateway knows; rounds as (opens in ms, closes in ms, quota)."""
        campaign_id = "page-" + secrets.token_hex(4)
        windows = rounds or [(opens_ms, opens_ms + HOUR_MS, quota)]
        said = json.dumps({"name": name, "rule": RULE, **definition})
        args = [scripts.SCHEMA, 1, self._run(), 1, "op", said, per_user, 0, 10**6]
        touched, now_ms = [keys.campaign(campaign_id)], self.redis.now_ms()
        for number, (opens, closes, coupons) in enumerate(windows, 1):
            touched.append(keys.round_(campaign_id, number))
            args += [now_ms + opens, now_ms + closes, coupons]
        self.redis.script(PUBLISH, touched, args)
        self.redis.call("SADD", keys.REGISTRY, campaign_id)
        self.redis.call("PUBLISH", keys.CHANGES, campaign_id)
        until("the gateway knows it", lambda: self.gateway.knows(campaign_id))
        return campaign_id

    def _run(self) -> str:
        lines = self.redis.call("INFO", "server").split("\r\n")
        return str(next(line[7:] for line in lines if line[:7] == "run_id:"))

    def page(self, campaign_id: str) -> str:
        """Address of its page."""
        return f"{self.url}/c/{campaign_id}"

    def state(self, campaign_id: str) -> dict[str, Any]:
        """Its public state."""
        found: dict[str, Any] = self.gateway.http.get(
            self.url + f"/v1/campaigns/{campaign_id}"
        ).json()
        return found

    def turn(self, campaign_id: str, status: str) -> None:
        """PUBLISHED, PAUSED or OFFLINE, and the gateway knows."""
        shown = {"PAUSED": "PAUSED", "OFFLINE": "OFFLINE"}
        key = keys.campaign(campaign_id)
        self.redis.call("HSET", key, "status", status)
        self.redis.call("HINCRBY", key, "generation", 1)
        self.redis.call("PUBLISH", keys.CHANGES, campaign_id)
        wanted = shown.get(status)
        until(
            f"it is {status}",
            lambda: (
                (now := self.state(campaign_id)["status"]) == wanted
                or (wanted is None and now not in shown)
            ),
        )

    def restock(self, campaign_id: str, more: int) -> None:
        """To the first round, and the gateway knows."""
        before = self.state(campaign_id)["rounds"][0]["left"]
        for field in ("quota", "left"):
            self.redis.call("HINCRBY", keys.round_(campaign_id, 1), field, more)
        self.redis.call("HINCRBY", keys.campaign(campaign_id), "generation", 1)
        self.redis.call("PUBLISH", keys.CHANGES, campaign_id)
        wanted = before + more
        until("it is known", lambda: self.state(campaign_id)["rounds"][0]["left"] == wanted)

    def settle(self, campaign_id: str) -> None:
        """The ledger has everything up to now."""
        key = keys.campaign(campaign_id)
        touched = [key, keys.outbox(campaign_id)]
        self.redis.script(SETTLE, touched, [1, self.redis.call("HGET", key, "seq"), ""])
        self.redis.call("PUBLISH", keys.CHANGES, campaign_id)

    def granted(self, campaign_id: str) -> int:
        """How many coupons were given."""
        return int(self.redis.call("HGET", keys.campaign(campaign_id), "serial"))

    def request_ids(self, campaign_id: str) -> list[str]:
        """Of every grant, in the order of holders."""
        entries = self.redis.call("HVALS", keys.holders(campaign_id))
        return [line.split(",")[4] for entry in entries for line in entry.split(";") if line]

    def commands(self) -> dict[str, int]:
        """How often Redis was asked each command so far, by anybody."""
        lines = self.redis.call("INFO", "commandstats").split("\r\n")
        pairs = (line.removeprefix("cmdstat_").split(":calls=") for line in lines if "=" in line)
        return {name: int(rest.split(",")[0]) for name, rest in pairs}


@contextmanager
def selling(**settings: str) -> Iterator[Sales]:
    """Until the block ends; `settings` of the gateway besides the usual ones."""
    with valkey(tcp=True) as server:
        env = environment(server, **{"DEMO": "1", "CONNECTIONS_PER_ADDRESS": "0", **settings})
        with running(env) as gateway:
            found = Sales(server, gateway, settings.get("CORS_ORIGINS", "").split(","))
            try:
                yield found
            finally:
                found.redis.close()
