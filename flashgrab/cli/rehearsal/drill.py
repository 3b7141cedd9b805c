"""A drill: a stack of its own, a small sale, one part that dies or stands still, then the books."""

import asyncio
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from flashgrab.cli.campaigns import Centre, Refused, new_operation
from flashgrab.cli.failure import fail
from flashgrab.cli.rehearsal import books, report, tickets
from flashgrab.cli.rehearsal.connection import Address
from flashgrab.cli.rehearsal.crowd import Answered, Crowd, together
from flashgrab.cli.rehearsal.opening import Gateway
from flashgrab.cli.rehearsal.progress import say
from flashgrab.cli.rehearsal.sale import Names, Sale, asks
from flashgrab.cli.rehearsal.tally import Tally
from flashgrab.cli.stack import secretsfile
from flashgrab.cli.stack.folder import DataFolder
from flashgrab.cli.stack.layout import Layout, Options, lay_out
from flashgrab.cli.stack.service import Service, ServiceFailed
from flashgrab.cli.stack.supervisor import Supervisor
from flashgrab.cli.target import Target
from flashgrab.errors import FlashgrabError
from flashgrab.model import parse
from flashgrab.outcomes import Outcome
from flashgrab.store import Store

CAMPAIGN = "drill"
BUYERS = 600
PER_S = 200.0
"""First requests a second. Each buyer sends two with the same key: the sale takes at least 6 s."""
CONNECTIONS = 32
BEFORE_S = 1.5
FROZEN_S = 3.0
AGAIN_S = 60.0
"""Past it a part, grabs or ledger count as not coming back."""
DRILL_S = 240.0
LOOK_S = 0.02
PARTS = ("valkey", "kafka", "postgres", "gateway", "relay", "worker", "centre")

Way = Literal["kill", "freeze"]
DRILLS: dict[str, tuple[Way, str]] = {
    f"{way}-{part}": (way, part) for way in ("kill", "freeze") for part in PARTS
}
"""What each does: kill -9, or SIGSTOP for FROZEN_S, of one part."""


def sentence(name: str) -> str:
    """What a drill does."""
    way, part = DRILLS[name]
    return f"kill -9 of {part}" if way == "kill" else f"{part} stands still for {FROZEN_S:.0f} s"


@dataclass
class Findings:
    """What a drill found. Times are ms from the fault (from its end, where it was held); -1: it did
    not come back. `longest_ms` is the longest that a buyer waited, with his repeats."""

    drill: str
    serves_again_ms: int = -1
    grants_again_ms: int = -1
    ledger_again_ms: int = -1
    asked: int = 0
    repeats: int = 0
    longest_ms: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    audit: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        came_back = min(self.serves_again_ms, self.grants_again_ms, self.ledger_again_ms) >= 0
        return came_back and not self.problems and bool(self.audit.get("ok"))

    def as_json(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


async def run(name: str) -> tuple[Findings, list[str]]:
    """The drill, in a folder that is gone afterwards; and the verdict of the audit in lines.

    Exit 2 where the stack does not come up.
    """
    folder = Path(tempfile.mkdtemp(prefix="flashgrab-drill-"))
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        async with asyncio.timeout(DRILL_S), _stack(folder) as (layout, target):
            return await _Drill(name, layout, target).run()
    except ServiceFailed as failure:
        fail(str(failure))
    except TimeoutError:
        fail(f"the drill was not over within {DRILL_S:.0f} s")
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def _stack(path: Path) -> AsyncIterator[tuple[Layout, Target]]:
    """Everything that `up` runs, looked after as `up` does, on free ports."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    data = DataFolder(path / "data")
    data.open()
    secrets = secretsfile.settle(data.secrets_file, environment, demo=False)
    options = Options(data=data.path, port=0, centre_port=0)
    layout = lay_out(data, options, secrets, environment, note=say)
    supervisor = Supervisor(
        [
            [layout.valkey, layout.limiter, layout.postgres, layout.kafka],
            [layout.centre, layout.gateway, *layout.relays, layout.worker],
        ],
        run_file=data.run_file,
        pids_file=data.pids_file,
        say=lambda line: say(f"  {line}") if line.startswith("!") else None,
    )
    watching: asyncio.Task[str] | None = None
    try:
        say(f"starting a stack in {path}")
        await supervisor.start()
        watching = asyncio.create_task(supervisor.watch(), name="watch")
        yield (
            layout,
            Target(
                name="the drill's stack",
                gateway_url=str(layout.gateway.url),
                centre_url=str(layout.centre.url),
                redis_url=layout.valkey.url,
                postgres_url=layout.postgres.url,
                pass_keys=secrets.pass_keys,
                admin_token=secrets.admin_token,
            ),
        )
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await supervisor.stop(layout.stop_order())
        data.close()


class _Drill:
    """One sale with one fault in it."""

    def __init__(self, name: str, layout: Layout, target: Target) -> None:
        self._way, part = DRILLS[name]
        self._service: Service = layout.relays[0] if part == "relay" else getattr(layout, part)
        self._target = target
        self._sale = Sale(CAMPAIGN, "Drill", Names("u", BUYERS), BUYERS, ("a", "a"))
        self._tally = Tally(self._sale)
        self._findings = Findings(name)
        self._fault_s = self._over_s = float("inf")  # of the loop's clock: begun, at an end
        self._said: Counter[str] = Counter()

    async def run(self) -> tuple[Findings, list[str]]:
        await asyncio.to_thread(self._publish)
        gateway = Gateway(self._target.gateway_url)
        try:
            await gateway.shows([CAMPAIGN])
        finally:
            await gateway.close()
        say(f"{BUYERS:,} buyers, each with a repeat, for {BUYERS:,} coupons")
        crowd = Crowd(
            Address.of(self._target.gateway_url),
            tickets.sign_here(self._target.pass_keys),
            connections=CONNECTIONS,
            pace=PER_S,
        )
        wanted = asks([self._sale], CAMPAIGN, random.Random(CAMPAIGN))
        await together((crowd.send(wanted, self._take), self._break()))
        self._tally.close()
        say("waiting for the ledger, then recounting the books")
        audited = await books.audit(self._target, [CAMPAIGN])
        found = self._findings
        found.asked, found.repeats = self._tally.answered, self._tally.repeats
        found.outcomes = dict(self._said)
        found.problems += report.problem_lines([self._tally])
        found.audit = audited.as_json()
        return found, books.lines(audited)

    def _publish(self) -> None:
        definition = {
            "id": CAMPAIGN,
            "name": "Drill",
            "rule": {"kind": "amount_off", "amount": 100, "threshold": 1000},
            "rounds": [{"opens_at": "now", "closes_at": "+1h", "quota": BUYERS}],
        }
        with Centre(self._target.centre_url, self._target.admin_token) as centre:
            try:
                centre.create(parse(definition, CAMPAIGN), new_operation())
                centre.change(CAMPAIGN, "publish", new_operation())
            except Refused as refused:
                fail(f"{CAMPAIGN}: {refused}")

    def _take(self, answer: Answered) -> None:
        """What a buyer saw, and whether it is the first grant since the fault."""
        self._tally.take(answer)
        found = self._findings
        self._said[answer.outcome.name if answer.outcome else answer.said] += 1
        found.longest_ms = max(found.longest_ms, int((answer.ended_s - answer.began_s) * 1000))
        won = answer.outcome in (Outcome.GRANTED, Outcome.REPLAYED)
        if won and answer.began_s > self._fault_s and found.grants_again_ms < 0:
            found.grants_again_ms = max(0, int((answer.ended_s - self._over_s) * 1000))
            say(f"grabs are granted {found.grants_again_ms:,} ms after it")

    # -- the fault ---------------------------------------------------------------------------------

    async def _break(self) -> None:
        await asyncio.sleep(BEFORE_S)
        service, loop = self._service, asyncio.get_running_loop()
        async with Store(self._target.redis_url) as store:
            seq = await self._last(store, "seq")
            pid = service.pid
            if pid is None:
                fail(f"{service.name} does not run")
            self._fault_s = self._over_s = loop.time()
            if self._way == "kill":
                say(f"kill -9 of {service.name} (process {pid})")
                os.kill(pid, signal.SIGKILL)
            else:
                say(f"{service.name} (process {pid}) stands still for {FROZEN_S:.0f} s")
                await self._freeze(pid)
                self._over_s = loop.time()
                say(f"{service.name} goes on")
            found = self._findings
            found.serves_again_ms, found.ledger_again_ms = await asyncio.gather(
                self._again(self._serves(pid), f"{service.name} serves"),
                self._again(self._persists(store, seq), "the ledger goes on"),
            )

    async def _freeze(self, pid: int) -> None:
        stopped: Sequence[psutil.Process] = ()
        try:
            one = psutil.Process(pid)
            one.suspend()  # first, so that it makes no more children
            stopped = [one, *one.children(recursive=True)]
            for process in stopped[1:]:
                process.suspend()
            await asyncio.sleep(FROZEN_S)
        finally:
            for process in stopped:
                with suppress(psutil.NoSuchProcess):
                    process.resume()

    async def _again(self, condition: Any, what: str) -> int:
        """Milliseconds from the fault's end until it is met; -1 where it is not."""
        try:
            async with asyncio.timeout(AGAIN_S):
                await condition
        except TimeoutError:
            say(f"NOT within {AGAIN_S:.0f} s: {what}")
            return -1
        took_ms = max(0, int((asyncio.get_running_loop().time() - self._over_s) * 1000))
        say(f"{what} again {took_ms:,} ms after it")
        return took_ms

    async def _serves(self, old: int) -> None:
        service = self._service
        while True:
            pid = service.pid
            expected = pid is not None and (pid == old) == (self._way == "freeze")
            if expected and await asyncio.to_thread(service.probe):
                return
            await asyncio.sleep(LOOK_S)

    async def _persists(self, store: Store, seq: int) -> None:
        """The ledger has every fact of before the fault, and one of after it."""
        while True:
            if await self._last(store, "watermark") > seq:
                return
            await asyncio.sleep(LOOK_S)

    async def _last(self, store: Store, name: Literal["seq", "watermark"]) -> int:
        while True:
            with suppress(FlashgrabError):
                state = await store.read(CAMPAIGN)
                return int(getattr(state, name)) if state is not None else 0
            await asyncio.sleep(LOOK_S)
