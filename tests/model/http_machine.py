"""The state machine through HTTP: two gateways on one Redis, their lane, the oracle beside them.

The gateways may answer from memory, so a refusal is judged by what was true at some moment of the
last second (I10), but never before a change that its gateway knows of; grants are true now. While
pushes arrive, whose key has won is replayed, always (I3). Two things are left to that second: where
a push was lost, a gateway may refuse whom another has just granted something restocked
(docs/decisions.md); and a key that one refused for its device, another granted from another device.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from flashgrab import keys, scripts
from flashgrab.outcomes import BY_SCRIPT_CODE
from tests.gateway.crowd import Got, Sent
from tests.lua.server import Client
from tests.model.gateways import Asked, Gateways, now_ms
from tests.model.machine import BATCHES, REQUESTS
from tests.model.oracle import Caller, Grant, Oracle, Request, Round

HOUR_MS = 3_600_000
KNOWN_S = 10
"""Generous: promised are 0.1 s with the push, 1 s without."""
LOST_MS = 1000
"""How long a gateway may be behind where the push was lost (I10)."""
NOISE_MS = 1000
"""What a busy machine may add to that; the gateway's own bound (gate.HEARD_MS) is the sum."""
CLOCK_MS = 50
"""So near to an edge (gate.EDGE_MS) both sides of it are allowed."""
SCHEDULES = [
    # (opens, closes) of each round, in ms from now
    [(-1000, HOUR_MS)],
    [(-1000, HOUR_MS)],
    [(-1000, HOUR_MS), (HOUR_MS, 2 * HOUR_MS)],
    [(HOUR_MS, 2 * HOUR_MS)],
    [(-2000, -1000), (-500, HOUR_MS)],
    [(-2000, -1000)],
    [(120, HOUR_MS)],
    [(-1000, 200)],
    [(-1000, 150), (150, HOUR_MS)],
    [(-1000, 120), (240, HOUR_MS)],
]
PUBLISHES = st.tuples(
    st.sampled_from(SCHEDULES),
    st.sampled_from([1, 2, 3, 3, 30]),  # quota
    st.sampled_from([1, 1, 2, 3]),  # per_user
    st.sampled_from([0, 0, 1, 3]),  # per_device
    st.sampled_from([2, 6, 100, 100, 100]),  # outbox_max
)
SIDES = st.integers(0, 2**9 - 1)
"""Bit n: to which gateway the request n of a batch goes."""


@dataclass
class Moment:
    """What was true from a moment on."""

    at_ms: int
    oracle: Oracle


class Http(RuleBasedStateMachine):
    """Everything that may happen to one campaign. `redis`, `gateways`, `push` are the test's."""

    redis: Client
    gateways: Gateways
    push = True
    answers = 0
    number = 0

    @initialize(chosen=PUBLISHES)
    def publish(self, chosen: tuple[list[tuple[int, int]], int, int, int, int]) -> None:
        schedule, quota, per_user, per_device, outbox_max = chosen
        Http.number += 1  # over all sequences: gateways forget no campaign
        self.id = f"m{Http.number}"
        at_ms = now_ms()
        run = self.gateways.served[0].gateway.wire.run_id
        self.oracle = Oracle(
            [Round(at_ms + o, at_ms + c, quota) for o, c in schedule],
            per_user, per_device, outbox_max, run=run,
        )  # fmt: skip
        self.history: list[Moment] = []
        args: list[Any] = [scripts.SCHEMA, 1, run, 1, "op-1", "{}"]
        args += [per_user, per_device, outbox_max]
        for r in self.oracle.rounds:
            args += [r.opens_at, r.closes_at, r.quota]
        assert self.redis.script(scripts.PUBLISH, self._round_keys(), args) == [0]
        self._note(at_ms)
        self.redis.many([("SADD", keys.REGISTRY, self.id), ("PUBLISH", keys.CHANGES, self.id)])
        self._wait_until_known()

    def teardown(self) -> None:
        if hasattr(self, "id"):
            touched = [*self._round_keys(), keys.holders(self.id), keys.devices(self.id)]
            gone = ("DEL", *touched, keys.outbox(self.id))
            self.redis.many([("SREM", keys.REGISTRY, self.id), gone])

    def _round_keys(self) -> list[str]:
        numbers = range(1, len(self.oracle.rounds) + 1)
        return [keys.campaign(self.id), *(keys.round_(self.id, n) for n in numbers)]

    def _note(self, at_ms: int) -> None:
        """The oracle has changed."""
        oracle = copy.copy(self.oracle)
        oracle.rounds = [replace(r) for r in oracle.rounds]
        oracle.grants, oracle.returned = list(oracle.grants), dict(oracle.returned)
        self.history.append(Moment(at_ms, oracle))

    def _knows(self, gateway: int) -> int:
        """The generation that a gateway knows, 0 where it does not know the campaign."""
        found = self.gateways.served[gateway].gateway.catalogue.get(self.id)
        return found.state.generation if found and found.state else 0

    def _wait_until_known(self) -> None:
        end = time.monotonic() + KNOWN_S
        while any(self._knows(n) != self.oracle.generation for n in (0, 1)):
            assert time.monotonic() < end, "a change is not known to both gateways"
            time.sleep(0.001)

    # -- grabs -----------------------------------------------------------------------------------

    @rule(requests=BATCHES, sides=SIDES)
    def grab(self, requests: list[Request], sides: int) -> None:
        self._ask([(sides >> n & 1, request) for n, request in enumerate(requests)])

    @rule(requests=BATCHES, sides=SIDES)
    def grab_again(self, requests: list[Request], sides: int) -> None:
        """And at the other gateway."""
        for flip in (0, 2**9 - 1):
            self.grab(requests, sides ^ flip)

    @rule(request=st.sampled_from(REQUESTS))
    def grab_at_both(self, request: Request) -> None:
        self._ask([(0, request), (1, request)])

    @rule(which=st.integers(0, 20), device=st.sampled_from(["", "d", "e"]))
    def winner_repeats(self, which: int, device: str) -> None:
        """At both gateways, with his key and with another; perhaps from another device."""
        if self.oracle.grants:
            grant = self.oracle.grants[which % len(self.oracle.grants)]
            for request_id in (grant.request_id, "other"):
                self.grab_at_both((grant.user, device, request_id))

    def _ask(self, requests: Sequence[tuple[int, Request]]) -> None:
        served = self.gateways.served
        if self.oracle.per_device:  # then nobody gets a pass without a device (contract §2)
            requests = [
                (side, (user, device or "d", key)) for side, (user, device, key) in requests
            ]
        knew = [self._knows(n) for n in (0, 1)]
        before = len(self.history) - 1
        sent = [
            (side, Sent(self.id, served[side].token(self.id, user, device), request_id))
            for side, (user, device, request_id) in requests
        ]
        asked = self.gateways.ask(sent)
        type(self).answers += len(asked)
        both = list(zip(asked, (request for _, request in requests), strict=True))
        for answer, request in sorted(both, key=lambda pair: _serial(pair[0].got)):
            if answer.got.status == 201:
                self._granted(answer, request)
        for answer, request in both:
            if answer.got.status != 201:
                self._judge(answer, request, knew[answer.gateway], before)

    def _granted(self, answer: Asked, request: Request) -> None:
        """A new grant is the script's: true now, and the next serial."""
        serial, number = answer.got.body["serial"], answer.got.body["round"]
        judged = [
            (
                self.oracle.judge(request, self.oracle.round_at(at_ms), at_ms),
                self.oracle.round_at(at_ms),
            )
            for at_ms in self._moments(answer)
        ]
        assert (serial, number) in judged, (answer, request, judged)
        self.oracle.grants.append(Grant(serial, self.oracle.seq + 1, number, *request))
        self._note(answer.from_ms)

    def _judge(self, answer: Asked, request: Request, knew: int, before: int) -> None:
        allowed = [
            oracle.judge(request, oracle.round_at(at_ms), at_ms)
            for moment in self._window(answer, knew, before)
            for oracle in (moment.oracle, replace(moment.oracle, outbox_max=2**53))
            for at_ms in self._moments(answer)
        ]  # memory does not know of the outbox: it may say what holds where that is not full
        said = _said(answer.got)
        if self.push and self._has_won(request, before):
            assert said[0] == "REPLAYED", (answer, request)
        assert any(said == self._in_words(result) for result in allowed), (
            answer, request, sorted({str(result) for result in allowed}),
        )  # fmt: skip

    def _has_won(self, request: Request, before: int) -> bool:
        """Whether his key had won, from this device, when it was sent."""
        grants = self.history[before].oracle.grants
        return any((g.user, g.device, g.request_id) == request for g in grants)

    def _window(self, answer: Asked, knew: int, before: int) -> Iterator[Moment]:
        """What was true while the request was under way, or may have been believed."""
        since_ms = answer.from_ms - LOST_MS - NOISE_MS
        for n, moment in enumerate(self.history):
            until_ms = self.history[n + 1].at_ms if n + 1 < len(self.history) else answer.to_ms
            if n >= before or (until_ms >= since_ms and moment.oracle.generation >= knew):
                yield moment

    def _moments(self, answer: Asked) -> list[int]:
        """Moments of Redis' clock that tell all apart: both ends, and each edge between them."""
        first, last = answer.from_ms - CLOCK_MS, answer.to_ms + CLOCK_MS
        edges = [e for r in self.oracle.rounds for e in (r.opens_at, r.closes_at)]
        return [first, last, *(e for e in edges if first < e < last)]

    def _in_words(self, result: int | str) -> tuple[Any, ...]:
        """What the outside is told of a result of the oracle."""
        if isinstance(result, int):
            return ("GRANTED",) if result > 0 else (BY_SCRIPT_CODE[result].name,)
        grants = [entry.split(",") for entry in result[1:].split(";") if entry]
        if result[0] == "R":
            return ("REPLAYED", int(grants[0][0]), grants[0][3] == "r")
        held = (serial for serial, _, _, state, _ in grants if state == "g")
        return ("USER_LIMIT", *(f"{self.id}-{serial}" for serial in held))

    # -- what changes ----------------------------------------------------------------------------

    @rule(
        status=st.sampled_from(["PUBLISHED"] * 5 + ["PAUSED"] * 2 + ["OFFLINE"]),
        more=st.sampled_from([0, 1, 1, 2, 4, -1]),
    )
    def apply(self, status: str, more: int) -> None:
        """A restock, a pause, a resume, a close; its push arrives, or is lost."""
        oracle = self.oracle
        version, quotas = oracle.version + 1, [max(r.quota + more, 0) for r in oracle.rounds]
        change = (1, version, f"op-{version}", status)
        at_ms = now_ms()
        reply = self.redis.script(scripts.APPLY, self._round_keys(), [*change, *quotas])
        assert reply == [oracle.apply(*change, quotas), oracle.generation]
        self._note(at_ms)
        if self.push:
            self.redis.call("PUBLISH", keys.CHANGES, self.id)
            self._wait_until_known()

    @rule(which=st.integers(0, 20))
    def give_back(self, which: int) -> None:
        """Somebody's coupon comes back, perhaps once more; its push arrives, or is lost."""
        if not self.oracle.grants:
            return
        oracle = self.oracle
        grant = oracle.grants[which % len(oracle.grants)]
        caller = Caller(run=oracle.run, floor=oracle.seq)
        touched = [f(self.id) for f in (keys.campaign, keys.holders, keys.devices, keys.outbox)]
        touched.append(keys.round_(self.id, grant.round))
        args = [caller.schema, caller.epoch, caller.run, caller.floor]
        args += [grant.serial, grant.round, grant.user, grant.device]
        at_ms = now_ms()
        reply = self.redis.script(scripts.RETURN, touched, args)
        expected = oracle.give_back(caller, grant.serial, grant.round, grant.user, at_ms)
        assert tuple(reply) == expected
        if expected[0] == 0:
            self._note(at_ms)
            if self.push:
                self.redis.call("PUBLISH", keys.CHANGES, self.id)
                self._wait_until_known()

    @rule(behind=st.sampled_from([0, 0, 1, 2]))
    def settle(self, behind: int) -> None:
        watermark = max(self.oracle.seq - behind, 0)
        touched = [keys.campaign(self.id), keys.outbox(self.id)]
        at_ms = now_ms()
        code, _ = self.redis.script(scripts.SETTLE, touched, [1, watermark, ""])
        assert code == self.oracle.settle(1, watermark, "")[0] == 0
        self._note(at_ms)

    @rule()
    def time_goes_by(self) -> None:
        time.sleep(0.06)

    @rule()
    def all_is_known(self) -> None:
        self._wait_until_known()


def _serial(got: Got) -> int:
    return int(got.body["serial"]) if got.status == 201 else 0


def _said(got: Got) -> tuple[Any, ...]:
    if got.status == 200:
        assert got.body["replayed"] is True
        return ("REPLAYED", got.body["serial"], got.body["state"] == "RETURNED")
    code = got.body["code"]
    return (code, *got.body.get("grab_ids", ())) if code == "USER_LIMIT" else (code,)
