"""A buyer for Locust: fetches a pass, waits for the opening, grabs, repeats by the rules.

One process, no `--processes`: the crowd's books are in its memory. `time.sleep` lets the others go
on: Locust replaces it by gevent's.
"""

import json
import secrets
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment
from locust.exception import StopUser

from loadtests import identity
from loadtests.crowd import Crowd
from loadtests.rules import code_of, pause_s

PATIENCE_S = 30.0
"""From the first sending of a grab: past it no more repeats."""
TRIES_MAX = 20
"""For an identity, a pass and the campaign's state."""
WAIT_S_MAX = 300.0
"""For the opening."""
_crowds: dict[Environment, Crowd] = {}


@events.init_command_line_parser.add_listener  # type: ignore[untyped-decorator] # Locust has no types there
def add_arguments(parser: LocustArgumentParser) -> None:
    """Our own arguments beside Locust's."""
    parser.add_argument("--campaign", default="demo-1", help="campaign to grab in")
    parser.add_argument("--buyers", type=int, default=1000, help="buyers to serve in all")
    parser.add_argument("--report", default="", help="file for what the buyers were told (JSON)")


@events.test_start.add_listener  # type: ignore[untyped-decorator] # Locust has no types there
def begin(environment: Environment, **_: Any) -> None:
    """A new crowd with user ids of its own."""
    options = environment.parsed_options
    assert options is not None
    users = min(int(options.num_users or 1), options.buyers)
    prefix = f"load-{secrets.token_hex(4)}-"
    _crowds[environment] = Crowd(prefix, options.buyers, users)


@events.test_stop.add_listener  # type: ignore[untyped-decorator] # Locust has no types there
def end(environment: Environment, **_: Any) -> None:
    """Write the report: what the buyers were told, and Locust's latencies of a grab (ms)."""
    options = environment.parsed_options
    assert options is not None
    if not options.report:
        return
    grabs = environment.stats.get("grab", "POST")
    latency = {f"p{p}": grabs.get_response_time_percentile(p / 100) for p in (50, 95, 99)}
    latency["max"] = grabs.max_response_time
    report = _crowds[environment].report() | {"latency_ms": latency}
    Path(options.report).write_text(json.dumps(report))


def crowd_of(environment: Environment) -> Crowd | None:
    """The crowd of a test, once it has begun."""
    return _crowds.get(environment)


class Buyer(FastHttpUser):
    """What every user of ours can do; what it does, and for whom, a Locust file says."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 10.0

    def on_start(self) -> None:
        """Know the campaign and the crowd."""
        options = self.environment.parsed_options
        assert options is not None
        self.campaign: str = options.campaign
        self.crowd = _crowds[self.environment]

    def buy(self, buyer: str, token: str) -> None:
        """A grab and its repeat with the same key, held against the contract."""
        key = f"k-{buyer}"
        first = self._grab(token, key)
        self.crowd.judge(buyer, first, self._grab(token, key))

    def _grab(self, token: str, key: str) -> tuple[str, str | None]:
        """One grab until its answer is final: its code, and the coupon where there is one."""
        headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": key}
        path = f"/v1/campaigns/{self.campaign}/grabs"
        ends_s = time.monotonic() + PATIENCE_S
        tries = 0
        while True:
            tries += 1
            status, body = self._post(path, "grab", headers)
            code = code_of(status, body)
            self.crowd.sent(status, code, time.monotonic())
            wait_s = pause_s(status, body, tries)
            if wait_s is None or time.monotonic() + wait_s > ends_s:
                return code, body.get("grab_id")
            self.crowd.repeats += 1
            time.sleep(wait_s)

    def pass_of(self, buyer: str) -> str:
        """Of this buyer in this campaign."""
        if secret := identity.key():
            token = identity.token(buyer, secret)
        else:
            demo = self._must("/demo/identity", "identity", {}, {"user_id": buyer})
            token = str(demo["token"])
        headers = {"Authorization": f"Bearer {token}"}
        found = self._must(f"/v1/campaigns/{self.campaign}/passes", "pass", headers)
        return str(found["pass"])

    def opens_in_s(self) -> float:
        """Until the current or next round opens; its clock and its times, not ours."""
        for _ in range(TRIES_MAX):
            with self.client.request(
                "GET", f"/v1/campaigns/{self.campaign}", name="campaign", catch_response=True
            ) as reply:
                if reply.status_code == 200:
                    body = _read(reply.text)
                    break
                reply.failure(f"status {reply.status_code}")
            time.sleep(0.5)
        else:
            raise StopUser
        now = datetime.fromisoformat(body["server_time"])
        for round_ in body["rounds"]:
            if now < datetime.fromisoformat(round_["closes_at"]):
                wait_s = (datetime.fromisoformat(round_["opens_at"]) - now).total_seconds()
                return min(max(wait_s, 0.0), WAIT_S_MAX)
        return 0.0

    def _must(
        self, path: str, name: str, headers: dict[str, str], body: dict[str, str] | None = None
    ) -> dict[str, Any]:
        for tries in range(1, TRIES_MAX + 1):
            status, found = self._post(path, name, headers, body)
            if status == 201:
                return found
            wait_s = pause_s(status, found, tries)
            if wait_s is None:
                break
            time.sleep(wait_s)
        self.crowd.wrong.append(f"no {name}: {path} answered {status}")
        raise StopUser

    def _post(
        self, path: str, name: str, headers: dict[str, str], body: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status (0 without an answer) and JSON body. Refusals are no failures of Locust's."""
        with self.client.request(
            "POST", path, name=name, headers=headers, json=body, catch_response=True
        ) as reply:
            if 0 < reply.status_code < 500:
                reply.success()
            return reply.status_code, _read(reply.text)


def _read(text: str | None) -> dict[str, Any]:
    try:
        body = json.loads(text or "")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
