"""One gateway process, fed with a fixed number of grabs through its connections' own code, without
sockets: what a grab costs in bytecodes, or (stopped between lengths) in instructions.

`python -P tests/bench/fed.py REDIS_URL [--side SIDE] [--stops]` prints a JSON line for each
workload. Nothing here is of this release alone but the other sides, so that PYTHONPATH chooses the
one that is fed. Counted is all Python that answers grabs: the connection, the batch, the reply; not
what goes on by itself in time, which is stopped. See bench/metering.py.

W1: each of 2,000 users is granted, in batches of 32. W2: sold out, refused from memory. W3: holders
repeat their requests, answered from memory.
"""

import argparse
import asyncio
import inspect
import json
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import structlog
import uvicorn
import uvloop
from uvicorn.server import ServerState

import gateway.batch
import gateway.call
from flashgrab.clock import SystemClock
from flashgrab.model import Round
from flashgrab.passes import PassKeys, issue
from flashgrab.settings import GatewaySettings
from flashgrab.store import Store
from flashgrab.telemetry import Metrics
from gateway.app import running
from gateway.gateway import Gateway
from gateway.lane import Lane

REQUESTS = 2000
WIDTH = 32
WARM = 10 * WIDTH
HOUR_MS = 3_600_000
HEAD = (Path(__file__).parents[2] / "bench" / "request.head").read_text()
HEAD = HEAD.replace("{host}", "127.0.0.1:8000").replace("\n", "\r\n")
PASS_KEYS = "t1:" + "k" * 40
STATUS = {"W1": b"HTTP/1.1 201", "W2": b"HTTP/1.1 409", "W3": b"HTTP/1.1 200"}
HEADERS = [(b"date", b"Mon, 23 Nov 2026 00:00:00 GMT")]


class Stopped(SystemClock):
    """The machine's clock until it is stopped: what is looked at once a millisecond is looked at
    once then, however slow the counting makes a grab."""

    at: tuple[int, int] | None = None

    def stop(self) -> None:
        self.at = (super().now_ms(), super().monotonic_ms())

    def now_ms(self) -> int:
        return self.at[0] if self.at else super().now_ms()

    def monotonic_ms(self) -> int:
        return self.at[1] if self.at else super().monotonic_ms()


class Answers:
    """So many are waited for; without asking again and again, which would be counted, too."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.all = asyncio.get_running_loop().create_future()

    def came(self) -> None:
        self._wanted -= 1
        if not self._wanted:
            self.all.set_result(None)


class Sink:
    """A transport that only notes that an answer came, and the answer."""

    def __init__(self, number: int) -> None:
        self._peer = ("127.0.0.1", 1024 + number)
        self.answers: Answers | None = None
        self.last = b""

    def write(self, data: bytes) -> None:
        self.last = data
        if self.answers is not None:
            self.answers.came()

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._peer if name in ("peername", "sockname") else default

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


class Opcodes:
    """Counts bytecodes by function while it is on; this file's own are not counted."""

    def __init__(self) -> None:
        self.of: Counter[str] = Counter()

    def __enter__(self) -> "Opcodes":
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _call(self, frame: FrameType, _event: str, _arg: Any) -> Any:
        if any(part in frame.f_code.co_filename for part in (__file__, "/asyncio/", "/uvloop/")):
            return None  # the feeding's own
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        name, of = frame.f_code.co_qualname, self.of

        def step(_frame: FrameType, event: str, _arg: Any) -> Any:
            if event == "opcode":
                of[name] += 1
            return step

        return step


COUNTING = {
    (Lane, "_decide"): ("campaign.tallies[",),
    (gateway.batch.Batcher, "_tell"): ("self._count(", "outcomes[GRANTED]"),
    (gateway.call.Asker, "_note"): ("self._metrics.observe(",),
}
"""The lines of the way of a grab that do nothing but count."""


def without_counting() -> None:
    """The product has no switch for it: these methods are made anew without those lines."""
    for (owner, name), marks in COUNTING.items():
        whole = textwrap.dedent(inspect.getsource(getattr(owner, name))).splitlines()
        kept = [line for line in whole if not any(mark in line for mark in marks)]
        assert all(any(mark in line for line in whole) for mark in marks), f"{name} has none"
        made: dict[str, Any] = {}
        code = compile("\n".join(kept), inspect.getfile(owner), "exec")
        exec(code, vars(sys.modules[owner.__module__]), made)  # noqa: S102 -- our own source
        setattr(owner, name, made[name])


def kind_of(side: str) -> type[Lane]:
    """The connections of a side: with traces on, and none of the grabs traced."""
    if side != "traces":
        return Lane
    from gateway.traced import Sampler, Traces

    return Traces(None, Sampler(every=0)).declining(Lane)  # type: ignore[arg-type]


async def no_app(_scope: object, _receive: object, _send: object) -> None:
    """What the lane does not take; here it takes all."""
    raise AssertionError("the lane has declined a grab")


class Feed:
    """One gateway and its connections."""

    def __init__(self, fed: Gateway, clock: Stopped, kind: type[Lane]) -> None:
        self.gateway = fed
        self.clock = clock
        self.keys = PassKeys.parse(PASS_KEYS)
        self.until_ms = clock.now_ms() + 10 * HOUR_MS
        config = uvicorn.Config(no_app, loop="uvloop", http=Lane, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        state.default_headers = HEADERS
        self.turn = 0.0
        self.sinks = [Sink(n) for n in range(WIDTH)]
        self.lanes = []
        for sink in self.sinks:
            lane = kind(config=config, server_state=state, app_state={"gateway": fed})
            lane.connection_made(sink)  # type: ignore[arg-type]
            lane._loop_time = lambda: self.turn  # the clocks are read once a turn
            self.lanes.append(lane)

    async def publish(self, campaign_id: str, quota: int) -> None:
        store, now_ms = self.gateway.store, self.clock.now_ms()
        await store.publish(
            campaign_id,
            run=await store.run_id(),
            version=1,
            operation="op",
            definition={"name": campaign_id, "rule": {}},
            per_user=1,
            per_device=0,
            rounds=[Round(1, now_ms - 1000, now_ms + HOUR_MS, quota)],
        )
        await store.register(campaign_id)
        await self.gateway.catalogue.refresh(campaign_id)

    def request(self, campaign_id: str, user: str) -> bytes:
        head = HEAD.replace("{path}", f"/v1/campaigns/{campaign_id}/grabs")
        token = issue(self.keys, campaign_id, user, "", self.until_ms)
        key = f"018f3a5e-7c41-7d2b-9c55-{abs(hash(user)) % 16**12:012x}"
        return f"{head}Idempotency-Key: {key}\r\nAuthorization: Bearer {token}\r\n\r\n".encode()

    async def say(self, requests: Sequence[bytes], status: bytes = b"HTTP/1.1") -> None:
        """All of them, WIDTH at a time, each answered before the next."""
        for start in range(0, len(requests), WIDTH):
            some = requests[start : start + WIDTH]
            answers = Answers(len(some))
            for sink in self.sinks:
                sink.answers = answers
            self.turn += 1.0
            for lane, request in zip(self.lanes, some, strict=False):
                lane.data_received(request)
            await answers.all
            said = {sink.last[: len(status)] for sink in self.sinks[: len(some)]}
            assert said == {status}, said

    async def prepared(self, workload: str, requests: int) -> list[bytes]:
        """The requests of a workload, after those that it needs to have gone before."""
        name, many = workload.lower(), range(requests)
        if workload == "W1":
            await self.publish(name, 10_000_000)
            await self.say([self.request(name, f"warm{n}") for n in range(WARM)], STATUS["W1"])
            return [self.request(name, f"u{n}") for n in many]
        holders = [self.request(name, f"h{n}") for n in range(WIDTH)]
        await self.publish(name, WIDTH)
        await self.say(holders, STATUS["W1"])
        await self.gateway.catalogue.refresh(name)
        strangers = [self.request(name, f"u{n}") for n in many]
        campaign = self.gateway.catalogue.get(name)
        assert campaign is not None
        while campaign.shut is None:  # until the holders are loaded
            await asyncio.sleep(0.01)
            await self.gateway.catalogue.refresh(name)
            await self.say(strangers[:WIDTH], STATUS["W2"])
        self.clock.stop()
        now_ms = self.clock.now_ms()
        self.gateway.redis_clock.observe(now_ms)
        nothing: Any = lambda _now_ms: None  # noqa: E731
        self.gateway.redis_clock.observe = nothing  # type: ignore[method-assign]
        self.gateway.wire._on_clock = nothing
        campaign.hear(now_ms)
        again = (holders * (requests // WIDTH + 1))[:requests]
        said, status = (again, STATUS["W3"]) if workload == "W3" else (strangers, STATUS["W2"])
        await self.say(said[:WARM], status)
        return said


async def feed(url: str, workload: str, side: str, stops: bool) -> dict[str, Any]:
    """One workload in a gateway of its own: bytecodes a request, by function."""
    given: dict[str, Any] = {
        "redis_url": url,
        "pass_keys": PASS_KEYS,
        "identity_key": "i" * 40,
        "limiter_url": "",
    }
    clock, metrics = Stopped(), Metrics()
    async with Store(url) as store:
        await store._redis.flushall()
    async with running(GatewaySettings(**given), metrics, clock) as fed:
        here = Feed(fed, clock, kind_of(side))
        requests = await here.prepared(workload, 3 * REQUESTS if stops else REQUESTS)
        for task in asyncio.all_tasks():  # what goes on by itself, in time
            if task is not asyncio.current_task() and task.get_name() != "wire":
                task.cancel()
        await asyncio.sleep(0.05)
        if stops:
            for some in (requests[:REQUESTS], requests[REQUESTS:], []):
                print(workload, flush=True)
                sys.stdin.readline()
                await here.say(some, STATUS[workload])
            return {"workload": workload}
        with Opcodes() as opcodes:
            await here.say(requests, STATUS[workload])
        found = {name: count / REQUESTS for name, count in opcodes.of.most_common()}
        return {"workload": workload, "all": sum(found.values()), "of": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("redis_url")
    parser.add_argument("--side", choices=("as it is", "metrics off", "traces"), default="as it is")
    parser.add_argument("--stops", action="store_true", help="wait for a line before each length")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    gateway.batch.SLOW_S = 1e9  # being counted makes Redis look slow
    if options.side == "metrics off":
        without_counting()
    for workload in STATUS:
        found = uvloop.run(feed(options.redis_url, workload, options.side, options.stops))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
