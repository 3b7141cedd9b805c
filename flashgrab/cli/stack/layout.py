"""Which services and parts a stack has, and what each part is told (contract §7)."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from flashgrab.cli.stack.external import External
from flashgrab.cli.stack.folder import DataFolder
from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.part import Part
from flashgrab.cli.stack.ports import LOOPBACK, PortBook, demand
from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.secretsfile import Secrets
from flashgrab.cli.stack.valkey import Limiter, Valkey

# The gateway first, so that nothing new comes in; each one before what it writes to.
STOP_ORDER = ("gateway", "relay", "worker", "centre", "kafka", "postgres", "valkey", "limiter")

# What `up` decides itself or gives only to those who need it; the rest of the environment passes.
_OURS = frozenset(
    f"FLASHGRAB_{name}"
    for name in (
        *("REDIS_URL", "REDIS_PASSWORD", "POSTGRES_URL", "POSTGRES_PASSWORD", "KAFKA_BOOTSTRAP"),
        *("PASS_KEYS", "ADMIN_TOKEN", "IDENTITY_KEY", "DEMO", "DATA", "LIMITER_URL", "SEGMENT_KEY"),
        *("HOST", "PORT", "CENTRE_PORT", "METRICS_PORT", "METRICS_HOST"),
        *("GATEWAY_URL", "CENTRE_URL"),
    )
)

PartCommand = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Options:
    """What `flashgrab up` was asked for. Port 0 picks a free one."""

    data: Path
    port: int = 8000
    centre_port: int = 8001
    processes: int = 1
    relays: int = 1
    demo: bool = False
    campaigns: Sequence[Path] = ()
    restart: bool = True
    migrate: bool = False


def part_command(name: str) -> Sequence[str]:
    """-P: a folder named worker/ where the user stands is not taken for ours."""
    return [sys.executable, "-P", "-m", "flashgrab.cli", name]


@dataclass(frozen=True, slots=True)
class Layout:
    """All that `up` runs."""

    valkey: Valkey | External
    limiter: Limiter | External
    postgres: Postgres | External
    kafka: Broker | External
    gateway: Part
    relays: tuple[Part, ...]
    worker: Part
    centre: Part

    def stop_order(self) -> list[str]:
        """Names of all, in the order of STOP_ORDER."""
        relays = [relay.name for relay in self.relays]
        return [n for name in STOP_ORDER for n in (relays if name == "relay" else [name])]


def lay_out(
    folder: DataFolder,
    options: Options,
    secrets: Secrets,
    environment: Mapping[str, str],
    *,
    note: Callable[[str], None],
    command: PartCommand = part_command,
) -> Layout:
    """Choose ports and build everything; starts nothing. Raises ServiceFailed on a port in use."""
    book = PortBook(folder.ports_file)
    port = demand(options.port, "--port") if options.port else book.of("gateway")
    centre_port = (
        demand(options.centre_port, "--centre-port") if options.centre_port else book.of("centre")
    )
    valkey, postgres, kafka = _services(folder, book, secrets, environment, note)
    limiter = _limiter(folder, book, secrets, environment)

    redis = {"REDIS_URL": valkey.url}
    ledger = {"POSTGRES_URL": postgres.url}
    events = {"KAFKA_BOOTSTRAP": kafka.bootstrap}
    # Only one worker runs here, so whoever died before it is not waited for.
    named = {"WORKER_NAME": "up"}
    # The embedded broker waits half a session at each join.
    group = {} if isinstance(kafka, External) else {"KAFKA_SESSION_TIMEOUT_MS": "2000"}
    identity = {"IDENTITY_KEY": secrets.identity_key} if secrets.identity_key else {}
    demo = {"DEMO": "1"} if options.demo else {}
    lists = {"SEGMENT_KEY": secrets.segment_key}
    told = {
        "gateway": redis
        | {"LIMITER_URL": limiter.url, "PORT": str(port), "PASS_KEYS": secrets.pass_keys}
        | identity
        | demo
        | lists,
        "relay": redis | events,
        "worker": redis | events | ledger | group | named,
        "centre": redis
        | events
        | ledger
        | lists
        | {"CENTRE_PORT": str(centre_port), "ADMIN_TOKEN": secrets.admin_token}
        | {"DATA": str(folder.path.resolve())},
    }
    urls = {
        "gateway": f"http://{LOOPBACK}:{port}",
        "centre": f"http://{LOOPBACK}:{centre_port}",
    }

    def part(
        kind: str, *flags: str, stop_within_s: float, processes: int = 1, number: int = 1
    ) -> Part:
        name = f"{kind}-{number}" if number > 1 else kind
        metrics_port = book.of(f"{name} metrics")
        metrics_url = f"http://{LOOPBACK}:{metrics_port}/metrics"
        named = {"RELAY_NAME": f"up-{name}"} if kind == "relay" else {}
        ours = (
            told[kind]
            | named
            | {
                "HOST": LOOPBACK,
                "METRICS_PORT": str(metrics_port),
                "GATEWAY_URL": urls["gateway"],
                "CENTRE_URL": urls["centre"],
            }
        )
        rest = {key: value for key, value in environment.items() if key not in _OURS}
        return Part(
            name,
            [*command(kind), *flags],
            rest | {f"FLASHGRAB_{key}": value for key, value in ours.items()},
            url=urls.get(kind),
            ready_url=f"{urls[kind]}/readyz" if kind in urls else metrics_url,
            metrics_url=metrics_url,
            log=folder.log(name),
            processes=processes,
            stop_within_s=stop_within_s,
        )

    several = ("--processes", str(options.processes)) if options.processes > 1 else ()
    return Layout(
        valkey=valkey,
        limiter=limiter,
        postgres=postgres,
        kafka=kafka,
        gateway=part("gateway", *several, stop_within_s=10, processes=options.processes),
        relays=tuple(
            part("relay", stop_within_s=10, number=n) for n in range(1, options.relays + 1)
        ),
        worker=part("worker", stop_within_s=20),
        centre=part("centre", stop_within_s=10),
    )


def _services(
    folder: DataFolder,
    book: PortBook,
    secrets: Secrets,
    environment: Mapping[str, str],
    note: Callable[[str], None],
) -> tuple[Valkey | External, Postgres | External, Broker | External]:
    """Each embedded, unless the environment gives an address of the user's own."""
    redis_url = environment.get("FLASHGRAB_REDIS_URL", "")
    postgres_url = environment.get("FLASHGRAB_POSTGRES_URL", "")
    bootstrap = environment.get("FLASHGRAB_KAFKA_BOOTSTRAP", "")
    return (
        External("valkey", redis_url, 6379)
        if redis_url
        else Valkey(
            folder.path / "valkey",
            port=book.of("valkey"),
            password=secrets.redis_password,
            log=folder.log("valkey"),
        ),
        External("postgres", postgres_url, 5432)
        if postgres_url
        else Postgres(
            folder.path / "postgres",
            port=book.of("postgres"),
            password=secrets.postgres_password,
            log=folder.log("postgres"),
            note=note,
        ),
        External("kafka", bootstrap, 9092)
        if bootstrap
        else Broker(port=book.of("kafka"), log=folder.log("kafka")),
    )


def _limiter(
    folder: DataFolder, book: PortBook, secrets: Secrets, environment: Mapping[str, str]
) -> Limiter | External:
    """The server of the rate limits, likewise."""
    url = environment.get("FLASHGRAB_LIMITER_URL", "")
    if url:
        return External("limiter", url, 6379)
    return Limiter(
        folder.path / "limiter",
        port=book.of("limiter"),
        password=secrets.redis_password,
        log=folder.log("limiter"),
    )
