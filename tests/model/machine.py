"""The state machine: the real scripts on a real Valkey, step by step beside the oracle.

The clock cannot be moved, so the rounds are: `move_clock` shifts their times on both sides.
One write a step carries the script call and the reading of every key.
"""

import random
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from flashgrab import keys, scripts
from tests.lua.server import Client, pairs
from tests.model.oracle import Caller, Grant, Oracle, Request, Round

ID = "m"
HOUR_MS = 3_600_000
ROUNDS_MAX = 3

REQUESTS: list[Request] = [
    (user, device, request_id)
    for user in ("a", "b", "c", "d", "e")
    for device in ("d", "e", "")
    for request_id in ("1", "2", "g")
]
_dice = random.Random(618)
BATCHES = st.sampled_from(
    [[request] for request in REQUESTS]
    + [[_dice.choice(REQUESTS) for _ in range(size)] for size in (2, 3, 4, 6, 9) for _ in range(99)]
)
"""Ready made: one draw instead of ten, which is most of what a sequence costs. Simplest first."""
CALLERS = st.sampled_from(
    ["fits"] * 10 + ["behind"] * 4 + ["schema", "epoch", "run", "floor", "number", "number"]
)
SCHEDULES = [
    # (opens, closes) of each round, in hours from now: edges at "now" are among them
    [(-1, 1)],
    [(0, 2)],
    [(-2, 0)],
    [(-9, 9)],
    [(-1, 1), (1, 3)],
    [(-2, 0), (0, 2)],
    [(-2, -1), (1, 2)],
    [(-9, -1), (-1, 9)],
    [(-5, -4), (-3, -2), (-1, 9)],
    [(-1, 1), (2, 3), (3, 4)],
    [(-5, -4), (-3, -2), (-1, 1)],
    [(-5, -4), (-3, 0), (0, 9)],
]
PUBLISHES = st.tuples(
    st.sampled_from(SCHEDULES),
    st.sampled_from([1, 2, 3, 30, 30, 30]),  # quota
    st.sampled_from([1, 2, 3]),  # per_user
    st.sampled_from([0, 0, 1, 3]),  # per_device
    st.sampled_from([2, 3, 6, 100, 100, 100]),  # outbox_max
)


class Scripts(RuleBasedStateMachine):
    """Everything that may happen to one campaign. `redis` and `shas` are set by the test."""

    redis: Client
    shas: dict[str, str]
    steps = 0

    def _step(self, *command: Any) -> Any:
        """Run a command, then hold the whole state against the oracle."""
        type(self).steps += 1
        reads = [("DBSIZE",), ("HGETALL", keys.campaign(ID)), ("HGETALL", keys.holders(ID))]
        reads += [("HGETALL", keys.devices(ID)), ("XRANGE", keys.outbox(ID), "-", "+")]
        reads += [("HGETALL", keys.round_(ID, n)) for n in range(1, ROUNDS_MAX + 1)]
        reply, *self.seen = self.redis.many([command, *reads])
        return reply

    def _script(self, script: scripts.Script, touched: Sequence[str], *args: Any) -> Any:
        return self._step("EVALSHA", self.shas[script.name], len(touched), *touched, *args)

    def _compare(self) -> None:
        size, campaign, holders, devices, outbox, *rounds = self.seen
        oracle = self.oracle
        assert pairs(campaign) == oracle.campaign()
        assert [pairs(r) for r in rounds if r] == oracle.round_rows()
        assert pairs(holders) == oracle.holders()
        assert pairs(devices) == {d: str(n) for d, n in oracle.device_counts().items()}
        assert outbox == oracle.outbox_rows()
        assert size == 1 + len(oracle.rounds) + sum(
            map(bool, (holders, devices, oracle.seq > oracle.base))
        )

    def _round_keys(self) -> list[str]:
        numbers = range(1, len(self.oracle.rounds) + 1)
        return [keys.campaign(ID), *(keys.round_(ID, n) for n in numbers)]

    def _publish(self, run: str, version: int) -> Any:
        oracle = self.oracle
        args: list[Any] = ["1", 1, run, version, "op-1", "{}"]
        args += [oracle.per_user, oracle.per_device, oracle.outbox_max]
        for r in oracle.rounds:
            args += [r.opens_at, r.closes_at, r.quota]
        return self._script(scripts.PUBLISH, self._round_keys(), *args)

    @initialize(chosen=PUBLISHES)
    def publish(self, chosen: tuple[list[tuple[int, int]], int, int, int, int]) -> None:
        schedule, quota, per_user, per_device, outbox_max = chosen
        _, (seconds, micros) = self.redis.many([("FLUSHALL",), ("TIME",)])
        now_ms = int(seconds) * 1000 + int(micros) // 1000
        self.oracle = Oracle(
            [Round(now_ms + o * HOUR_MS, now_ms + c * HOUR_MS, quota) for o, c in schedule],
            per_user, per_device, outbox_max,
        )  # fmt: skip
        self.connected_to = "run-1"
        assert self._publish("run-1", 1) == [0]
        self._compare()

    @rule(requests=BATCHES, kind=CALLERS)
    def grab(self, requests: list[Request], kind: str) -> None:
        self._grab(requests, kind)

    @rule(requests=BATCHES, kind=CALLERS)
    def grab_again(self, requests: list[Request], kind: str) -> None:
        self._grab(requests, kind)

    @rule(requests=BATCHES)
    def grab_behind(self, requests: list[Request]) -> None:
        """By a gateway that takes the first round for the current one."""
        self._grab(requests, "behind")

    @rule(requests=BATCHES)
    def grab_twice(self, requests: list[Request]) -> None:
        self._grab(requests, "fits")
        self._grab(requests, "fits")

    def _grab(self, requests: list[Request], kind: str) -> None:
        oracle = self.oracle
        caller = self._caller(kind)
        last = len(oracle.rounds)
        after_ms = oracle.rounds[caller.number - 2].closes_at if caller.number > 1 else 0
        touched = [f(ID) for f in (keys.campaign, keys.holders, keys.devices, keys.outbox)]
        touched += [keys.round_(ID, min(n, last)) for n in (caller.number, caller.number + 1)]
        args = [caller.schema, caller.epoch, caller.run, caller.floor, caller.number, after_ms]
        flat = [part for request in requests for part in request]
        reply = self._script(scripts.GRAB, touched, *args, oracle.rounds[-1].closes_at, *flat)
        assert isinstance(reply, list), reply
        verdict, epoch, generation, seq, now_ms, number, left, *results = reply
        expected = oracle.grab(caller, requests, now_ms)
        assert (verdict, number, left, results) == expected
        assert (epoch, generation, seq) == (oracle.epoch, oracle.generation, oracle.seq)
        self._compare()

    def _caller(self, kind: str) -> Caller:
        """What the calling gateway believes: all of it right, or one thing not."""
        oracle = self.oracle
        now_ms = self.redis.now_ms()
        numbers = range(1, len(oracle.rounds) + 1)
        to_come = [n for n in numbers if now_ms < oracle.rounds[n - 1].closes_at]
        current = to_come[0] if to_come else numbers[-1]
        caller = Caller(
            epoch=str(oracle.epoch), run=self.connected_to, floor=oracle.seq, number=current
        )
        if kind == "floor":
            caller.floor += 1
        elif kind == "number":
            caller.number = numbers[-1]
        elif kind == "behind":
            caller.number = 1
        elif kind != "fits":
            setattr(caller, kind, "other")
        return caller

    @rule(
        which=st.integers(0, 20),
        kind=st.sampled_from(["fits"] * 8 + ["schema", "epoch", "run", "floor"]),
        wrong=st.sampled_from([""] * 8 + ["user", "round", "serial"]),
    )
    def give_back(self, which: int, kind: str, wrong: str) -> None:
        """A return of something granted, or granted to somebody else, or never."""
        oracle = self.oracle
        caller = self._caller(kind)
        grants = oracle.grants or [Grant(1, 1, 1, "a", "", "1")]
        grant = grants[which % len(grants)]
        serial = grant.serial + 100 * (wrong == "serial")
        number = grant.round % len(oracle.rounds) + 1 if wrong == "round" else grant.round
        user = "z" if wrong == "user" else grant.user
        touched = [f(ID) for f in (keys.campaign, keys.holders, keys.devices, keys.outbox)]
        touched += [keys.round_(ID, number)]
        args = [caller.schema, caller.epoch, caller.run, caller.floor, serial, number, user]
        reply = self._script(scripts.RETURN, touched, *args, grant.device)
        last: list[Any] = self.seen[4][-1:]
        at_ms = int(pairs(last[0][1])["at_ms"]) if last else 0
        assert tuple(reply) == oracle.give_back(caller, serial, number, user, at_ms)
        self._compare()

    @rule(
        status=st.sampled_from(["PUBLISHED"] * 3 + ["PAUSED"] * 2 + ["OFFLINE"]),
        more=st.sampled_from([0, 0, 1, 4, -1, -3]),
        ahead=st.sampled_from([1] * 6 + [2, 0, -1]),
        off=st.sampled_from([0] * 7 + [1]),
    )
    def apply(self, status: str, more: int, ahead: int, off: int) -> None:
        oracle = self.oracle
        version = oracle.version + ahead
        quotas = [max(r.quota + more, 0) for r in oracle.rounds]
        change = (oracle.epoch + off, version, f"op-{version}-{status}", status)
        reply = self._script(scripts.APPLY, self._round_keys(), *change, *quotas)
        code = oracle.apply(*change, quotas)
        assert reply == [code, oracle.generation]
        self._compare()

    @rule(
        behind=st.sampled_from([0, 0, 1, 2, 9, -1]),
        holes=st.sampled_from(["", "", "2-3"]),
        off=st.sampled_from([0] * 7 + [1]),
    )
    def settle(self, behind: int, holes: str, off: int) -> None:
        watermark = max(self.oracle.seq - behind, 0)
        touched = [keys.campaign(ID), keys.outbox(ID)]
        reply = self._script(scripts.SETTLE, touched, self.oracle.epoch + off, watermark, holes)
        assert tuple(reply) == self.oracle.settle(self.oracle.epoch + off, watermark, holes)
        self._compare()

    @rule(
        ahead=st.sampled_from([0, 0, 0, -1, 1]),
        off=st.sampled_from([0] * 7 + [1]),
        fresh=st.booleans(),
    )
    def restart_and_confirm(self, ahead: int, off: int, fresh: bool) -> None:
        """The server has another run_id from now on; grabs wait for a confirmation that holds."""
        if fresh:
            self.connected_to += "1"
        seq_min = max(self.oracle.seq + ahead, 0)
        reply = self._script(
            scripts.CONFIRM,
            [keys.campaign(ID)],
            self.oracle.epoch + off,
            seq_min,
            self.connected_to,
        )
        code = self.oracle.confirm(self.oracle.epoch + off, seq_min, self.connected_to)
        assert reply == [code, self.oracle.seq]
        self._compare()

    @rule(hours=st.sampled_from([1, 1, 2, -1, -1]))
    def move_clock(self, hours: int) -> None:
        commands = []
        for number, round_ in enumerate(self.oracle.rounds, 1):
            round_.opens_at -= hours * HOUR_MS
            round_.closes_at -= hours * HOUR_MS
            times = ("opens_at", round_.opens_at, "closes_at", round_.closes_at)
            commands.append(("HSET", keys.round_(ID, number), *times))
        self.redis.many(commands)

    @rule(below=st.sampled_from([0, 1, 2, 4, None]), entries_max=st.sampled_from([1, 100]))
    def books(self, below: int | None, entries_max: int) -> None:
        oracle = self.oracle
        if below is None:  # instead: publish again, which changes nothing
            assert self._publish("run-9", 9) == [1]
            return self._compare()
        last = oracle.seq
        watermark = max(last - below, 0)
        touched = [keys.campaign(ID), keys.outbox(ID), *self._round_keys()[1:]]
        reply = self._script(scripts.BOOKS, touched, watermark, entries_max)
        rows = [
            [r.quota, oracle.left(n), oracle.granted(n), oracle.given_back(n)]
            for n, r in enumerate(oracle.rounds, 1)
        ]
        above = [row for row in oracle.outbox_rows() if int(str(row[0])[:-2]) > watermark]
        head = [1, oracle.epoch, last, oracle.serial]
        assert reply == [*head, oracle.watermark, rows, above[:entries_max]]
        return self._compare()

    @rule(off=st.sampled_from([0] * 4 + [1]))
    def fence(self, off: int) -> None:
        epoch = self.oracle.epoch + off
        touched = [keys.campaign(ID)]
        reply = self._script(scripts.FENCE, touched, epoch, self.connected_to)
        assert tuple(reply) == self.oracle.fence(epoch, self.connected_to)
        self._compare()

    @rule(
        lost=st.sampled_from([0, 0, 1, 3]),
        gap=st.sampled_from([0, 1, 1000]),
        gone=st.booleans(),
        wrong=st.sampled_from([None] * 4 + ["epoch", "count", "again"]),
    )
    def rebuild(self, lost: int, gap: int, gone: bool, wrong: str | None) -> None:
        """The ledger has all but the last few facts; Redis has everything still, or nothing."""
        oracle = self.oracle
        if gone:
            self.redis.call("FLUSHALL")
            oracle.generation = 0
        oracle.cut(lost, gap)
        oracle.run = self.connected_to
        staged = [keys.staged(ID), keys.staged_holders(ID), keys.staged_devices(ID)]
        holders, devices = oracle.holders(), oracle.device_counts()
        for page, rows in (("begin", {}), ("holders", holders), ("devices", devices)):
            flat = [word for row in rows.items() for word in row]
            if rows or page == "begin":
                assert self._script(scripts.STAGE, staged, oracle.epoch, page, *flat) == [0]
        touched = [f(ID) for f in (keys.campaign, keys.holders, keys.devices, keys.outbox)]
        touched += [*staged, *self._round_keys()[1:]]
        args: list[Any] = ["1", oracle.epoch, oracle.run, oracle.version, oracle.operation, "{}"]
        args += [oracle.per_user, oracle.per_device, oracle.outbox_max, oracle.status]
        sizes = [len(holders), len(devices)]
        rounds = [
            word
            for n, r in enumerate(oracle.rounds, 1)
            for word in (r.opens_at, r.closes_at, r.quota, oracle.granted(n), oracle.given_back(n))
        ]
        if wrong in ("epoch", "count"):
            other = [*args, oracle.seq, *sizes]
            other[1 if wrong == "epoch" else -2] += 1
            reply = self._script(scripts.REBUILD, touched, *other, *rounds)
            assert isinstance(reply, list), reply
            assert reply[0] == 3
        reply = self._script(scripts.REBUILD, touched, *args, oracle.seq, *sizes, *rounds)
        assert reply == [0, oracle.generation]
        self._compare()
        if wrong == "again":
            reply = self._script(scripts.REBUILD, touched, *args, oracle.seq, *sizes, *rounds)
            assert reply == [1, oracle.generation]
            self._compare()
