"""A whole stack whose every link passes a proxy and whose every part can be killed and held.

The same services, parts and supervisor as `flashgrab up`, with two gateways, any number of
workers, and what a fault needs to get in between.
"""

import asyncio
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.part import Part
from flashgrab.cli.stack.ports import free_port
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.process import Command
from flashgrab.cli.stack.service import Service
from flashgrab.cli.stack.supervisor import Backoff, Supervisor
from flashgrab.cli.stack.valkey import Valkey
from flashgrab.tasks import end
from tests.services.proxy import Proxy, proxied

ROOT = Path(__file__).parent.parent.parent
PASSWORD = "only-for-tests"
PASS_KEYS = "t1:" + "k" * 40
ADMIN_TOKEN = "t" * 32
SESSION_MS = 2000
"""As `up` has it with the embedded broker."""
BACKOFF = Backoff(forget_after_s=1.0)
"""Each fault is the first one: a series of kills must not meet the pauses of a crash loop."""

COMMAND = (sys.executable, "-P", "-m", "flashgrab.cli")
ENTRY = (sys.executable, "-P", "-m", "tests.faults.part")
"""The same parts, stopped at a step or with a protection off."""


class Gate:
    """Keeps a service that died from coming back, and does what is to be done meanwhile."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._open.set()
        self.on_start: Callable[[], None] | None = None
        """Called once, before the next start."""

    def close(self) -> None:
        """What dies from now on stays away."""
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def passed(self) -> None:
        """Where a start waits."""
        self._open.wait()
        todo, self.on_start = self.on_start, None
        if todo is not None:
            todo()


class HeldValkey(Valkey):
    """Valkey behind a gate, with other settings than the product's where a control needs them."""

    def __init__(self, folder: Path, *, port: int, log: Path, more: Mapping[str, str]) -> None:
        super().__init__(folder, port=port, password=PASSWORD, log=log)
        self.gate = Gate()
        self.folder = folder
        self.env: dict[str, str] = {}
        self._more = more

    def prepare(self) -> None:
        self.gate.passed()
        super().prepare()

    def command(self) -> Command:
        command = super().command()
        return Command(command.argv, {**command.env, **self.env})

    def _settings(self) -> str:
        return super()._settings() + "".join(f"{k} {v}\n" for k, v in self._more.items())


class HeldPostgres(Postgres):
    """PostgreSQL behind a gate."""

    def __init__(self, folder: Path, *, port: int, log: Path) -> None:
        super().__init__(folder, port=port, password=PASSWORD, log=log)
        self.gate = Gate()
        self.folder = folder

    def prepare(self) -> None:
        self.gate.passed()
        super().prepare()


class HeldBroker(Broker):
    """The broker behind a gate; clients are sent to the proxy, whoever they asked."""

    def __init__(self, *, port: int, log: Path) -> None:
        super().__init__(port=port, log=log)
        self.gate = Gate()
        self.advertised = port

    def prepare(self) -> None:
        self.gate.passed()
        super().prepare()

    def command(self) -> Command:
        command = super().command()
        shown = f"--advertised-listener-url=tcp://127.0.0.1:{self.advertised}"
        argv = [shown if a.startswith("--advertised") else a for a in command.argv]
        return Command(argv, command.env)


class HeldPart(Part):
    """A part behind a gate. `argv` and `env` may be changed: the next start takes them."""

    def __init__(
        self, name: str, argv: Sequence[str], env: Mapping[str, str], *, port: int, log: Path
    ) -> None:
        metrics = env["FLASHGRAB_METRICS_PORT"]
        url = f"http://127.0.0.1:{port}" if port else None
        metrics_url = f"http://127.0.0.1:{metrics}/metrics"
        ready_url = f"{url}/readyz" if url else metrics_url
        super().__init__(
            name, argv, env, ready_url=ready_url, metrics_url=metrics_url, log=log, url=url
        )
        self.gate = Gate()
        self.argv = argv
        self.env: dict[str, str] = dict(env)
        self.port = port

    def prepare(self) -> None:
        self.gate.passed()

    def command(self) -> Command:
        return Command(self.argv, self.env)


@dataclass(frozen=True)
class Shape:
    """What a run wants of its stack. `without` names protections that are switched off
    (tests/faults/part.py); `folders` puts a service's data elsewhere than in the stack's folder."""

    gateways: int = 2
    relays: int = 1
    workers: int = 1
    valkey: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    without: Mapping[str, str] = field(default_factory=dict)
    folders: Mapping[str, Path] = field(default_factory=dict)


class FaultStack:
    """A running stack. `links` are the proxies, named FROM>TO; clients are "crowd"."""

    def __init__(self, folder: Path, shape: Shape, links: Mapping[str, Proxy]) -> None:
        self.folder = folder
        self.shape = shape
        self.links = dict(links)
        self.said: list[str] = []
        self._watching: asyncio.Task[str] | None = None
        self.valkey = HeldValkey(
            shape.folders.get("valkey", folder / "valkey"),
            port=free_port(),
            log=self._log("valkey"),
            more=shape.valkey,
        )
        self.postgres = HeldPostgres(
            shape.folders.get("postgres", folder / "postgres"),
            port=free_port(),
            log=self._log("postgres"),
        )
        self.kafka = HeldBroker(port=free_port(), log=self._log("kafka"))
        self.kafka.advertised = links["parts>kafka"].port
        self.gateways = [self._gateway(n) for n in range(1, shape.gateways + 1)]
        numbers = range(1, shape.relays + 1)
        self.relays = [self._relay("relay" if n == 1 else f"relay-{n}") for n in numbers]
        workers = range(1, shape.workers + 1)
        self.workers = [self._part("worker", f"worker-{n}", self._worker(n)) for n in workers]
        port = free_port()
        told = (
            self._redis("centre")
            | self._kafka()
            | {
                "POSTGRES_URL": self._through("centre>postgres", self.postgres.url),
                "CENTRE_PORT": str(port),
                "ADMIN_TOKEN": ADMIN_TOKEN,
            }
        )
        self.centre = self._part("centre", "centre", told, port)
        for link, proxy in links.items():
            self._lead(link.partition(">")[2], proxy)
        self.supervisor = Supervisor(
            [
                [self.valkey, self.postgres, self.kafka],
                [self.centre, *self.relays, *self.workers, *self.gateways],
            ],
            run_file=folder / "run.json",
            pids_file=folder / "pids.json",
            say=self.said.append,
            backoff=BACKOFF,
        )

    @property
    def services(self) -> dict[str, Service]:
        """Everything that runs, by name."""
        parts = (*self.relays, *self.workers, *self.gateways, self.centre)
        return {s.name: s for s in (*parts, self.kafka, self.postgres, self.valkey)}

    def gate(self, name: str) -> Gate:
        """What holds a service back when it died."""
        service = self.services[name]
        assert isinstance(service, HeldValkey | HeldPostgres | HeldBroker | HeldPart)
        return service.gate

    def crowd_url(self, gateway: int) -> str:
        """Where clients reach a gateway (0, 1, …): through their link."""
        return f"http://127.0.0.1:{self.links[f'crowd>gateway-{gateway + 1}'].port}"

    @property
    def bootstrap(self) -> str:
        """Where parts reach the broker."""
        return f"127.0.0.1:{self.kafka.advertised}"

    async def start(self) -> None:
        await self.supervisor.start()
        self._watching = asyncio.create_task(self.supervisor.watch(), name="watch")

    async def stop(self) -> None:
        """In order; nothing that is held or frozen may hold this up."""
        for service in self.services.values():
            self.gate(service.name).open()
        if self._watching is not None:
            await end([self._watching])
        await self.supervisor.stop([*self.services])
        for service in self.services.values():
            service.kill()

    def logs(self, lines: int = 30) -> str:
        """The ends of all logs."""
        ends = {log.name: log.read_text().splitlines()[-lines:] for log in self._logs()}
        return "\n".join(f"--- {name}\n" + "\n".join(end) for name, end in sorted(ends.items()))

    def _logs(self) -> list[Path]:
        return list((self.folder / "logs").glob("*.log"))

    def _log(self, name: str) -> Path:
        return self.folder / "logs" / f"{name}.log"

    def _gateway(self, number: int) -> HeldPart:
        port = free_port()
        told = self._redis(f"gateway-{number}") | {"PORT": str(port), "PASS_KEYS": PASS_KEYS}
        return self._part("gateway", f"gateway-{number}", told, port)

    def _relay(self, name: str) -> HeldPart:
        told = self._redis("relay") | self._kafka() | {"RELAY_NAME": name}
        return self._part("relay", name, told)

    def _worker(self, number: int) -> dict[str, str]:
        ledger = self._through("worker>postgres", self.postgres.url)
        session = {"KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS), "WORKER_NAME": f"worker-{number}"}
        return self._redis("worker") | self._kafka() | {"POSTGRES_URL": ledger} | session

    def _redis(self, part: str) -> dict[str, str]:
        return {"REDIS_URL": self._through(f"{part}>valkey", self.valkey.url)}

    def _kafka(self) -> dict[str, str]:
        return {"KAFKA_BOOTSTRAP": self.bootstrap}

    def _through(self, link: str, url: str) -> str:
        """The same address by way of a proxy."""
        head, _, tail = url.rpartition("@")
        return f"{head}@127.0.0.1:{self.links[link].port}/{tail.partition('/')[2]}"

    def _lead(self, to: str, proxy: Proxy) -> None:
        if to.startswith("gateway-"):
            proxy.lead_to(self.gateways[int(to[8:]) - 1].port)
        else:
            service = {"valkey": self.valkey, "postgres": self.postgres, "kafka": self.kafka}[to]
            proxy.lead_to(int(service.address.rpartition(":")[2]))

    def _part(self, kind: str, name: str, told: Mapping[str, str], port: int = 0) -> HeldPart:
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
        ours = {
            "HOST": "127.0.0.1",
            "METRICS_PORT": str(free_port()),
            "LOG_JSON": "true",
            **told,
            **self.shape.environment,
        }
        env = clean | {f"FLASHGRAB_{key}": value for key, value in ours.items()}
        env["PYTHONPATH"] = str(ROOT)
        without = self.shape.without.get(kind)
        argv = (*ENTRY, kind, "--without", without) if without else (*COMMAND, kind)
        return HeldPart(name, argv, env, port=port, log=self._log(name))


def links_of(shape: Shape) -> list[str]:
    """Every link that a stack of this shape has."""
    gateways = [f"gateway-{n}" for n in range(1, shape.gateways + 1)]
    return [
        *(f"crowd>{gateway}" for gateway in gateways),
        *(f"{part}>valkey" for part in (*gateways, "relay", "worker", "centre")),
        *("parts>kafka", "worker>postgres", "centre>postgres"),
    ]


@asynccontextmanager
async def fault_stack(shape: Shape | None = None, seed: int = 0) -> AsyncIterator[FaultStack]:
    """A stack in a folder of its own, until the block ends."""
    shape = shape or Shape()
    chance = random.Random(seed)
    # Not pytest's tmp_path: PostgreSQL runs as nobody, who must be able to reach it.
    folder = Path(tempfile.mkdtemp(prefix="flashgrab-faults-"))
    try:
        async with AsyncExitStack() as open_links:
            links = {
                name: await open_links.enter_async_context(proxied(0, chance))
                for name in links_of(shape)
            }
            stack = FaultStack(folder, shape, links)
            try:
                await stack.start()
                yield stack
            finally:
                await stack.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
