"""Every check of the doctor by name: its title, and what to do when it finds something.

A new check is an entry here and a function that returns its finding.
"""

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "bad"]

HINTS: dict[str, tuple[str, str]] = {
    # the machine and the folder
    "files": (
        "open files",
        "raise the limit (ulimit -n 65536, LimitNOFILE=65536): each buyer's connection is a file",
    ),
    "backlog": (
        "listen backlog",
        "sysctl net.core.somaxconn=4096: past it a crowd that connects at once is dropped",
    ),
    "server": (
        "fast server",
        "pip install uvloop httptools: without them each grab costs several times the CPU",
    ),
    "governor": (
        "cpu governor",
        "cpupower frequency-set -g performance: a slowed CPU wakes late",
    ),
    "memory": ("memory", "free some, or lower maxmemory: a machine that swaps answers nobody"),
    "settings": ("settings", "correct the variable; docs/settings.md lists them all"),
    "audience": (
        "identity audience",
        "set FLASHGRAB_IDENTITY_AUDIENCE: else tokens for any service of the login are taken",
    ),
    "ports": ("ports", "stop what has the port, or give another with --port and --centre-port"),
    "folder": ("data folder", "start `flashgrab up --migrate` with it: it takes a backup first"),
    "folder-foreign": (
        "data folder",
        "use the flashgrab that made it, or another folder with --data",
    ),
    "secrets": ("secrets file", "chmod 600 the file, and change the secrets if others had access"),
    "disk": ("disk space", "free some: with a full disk Redis stops, and nothing is granted"),
    "running": ("stack", "start `flashgrab up`, name its folder with --data, or set the addresses"),
    # Redis
    "redis": ("redis", "start it, or correct FLASHGRAB_REDIS_URL (address, password, TLS)"),
    "redis-version": ("redis version", "use Redis or Valkey 7 or newer"),
    "redis-role": ("redis role", "give the address of the primary: a replica grants nothing"),
    "redis-settings": ("redis settings", "let CONFIG GET through once, or look yourself"),
    "redis-aof": (
        "redis durability",
        "appendonly yes and appendfsync always: anything less loses grants that were answered",
    ),
    "redis-rewrite": (
        "redis rewrite",
        "no-appendfsync-on-rewrite no: else grants are not on disk during each rewrite",
    ),
    "redis-eviction": (
        "redis eviction",
        "maxmemory-policy noeviction: anything else throws away stock and holders",
    ),
    "redis-memory": (
        "redis memory",
        "set maxmemory above what a full outbox needs, below what the machine has",
    ),
    "redis-save": (
        "redis snapshots",
        'save "": the log has everything, and a snapshot forks the server in the middle of a sale',
    ),
    "redis-replica": (
        "redis replica",
        'start a replica of this Redis: campaigns with durability "replica" grant only with one',
    ),
    "redis-scripts": (
        "redis scripts",
        "start a gateway, and allow its user EVALSHA, SCRIPT and the keys in lua/README.md",
    ),
    # the rate limits' own Redis
    "limiter": (
        "limiter",
        "start a second Redis and set FLASHGRAB_LIMITER_URL: else each process limits alone",
    ),
    "limiter-apart": (
        "limiter server",
        "give rate limits a server of their own: evictions and all",
    ),
    "limiter-disk": (
        "limiter durability",
        'appendonly no and save "": limits are not worth a write to the disk',
    ),
    "limiter-eviction": (
        "limiter eviction",
        "set maxmemory, and maxmemory-policy allkeys-lru: past it the oldest limits go",
    ),
    # PostgreSQL
    "postgres": ("postgres", "start it, or correct FLASHGRAB_POSTGRES_URL"),
    "postgres-version": ("postgres version", "use PostgreSQL 15 or newer"),
    "postgres-fsync": (
        "postgres durability",
        "fsync on, full_page_writes on and synchronous_commit on (or stricter), for this user too",
    ),
    "postgres-connections": (
        "postgres connections",
        "raise max_connections: each worker takes up to 6, each centre 8, each command 2",
    ),
    "schema": ("ledger schema", "start a centre, or `flashgrab up --migrate`; backup before"),
    "schema-newer": ("ledger schema", "start the release that migrated it, or a newer one"),
    # Kafka
    "kafka": ("kafka", "start it, or correct FLASHGRAB_KAFKA_BOOTSTRAP and its listeners"),
    "kafka-topic": ("kafka topic", "start a relay: it makes the topic"),
    "kafka-partitions": (
        "kafka partitions",
        "add partitions to the topic, or stop workers: one without a partition has nothing to do",
    ),
    "kafka-replicas": (
        "kafka copies",
        "three replicas and min.insync.replicas 2, unless the outbox alone is to cover its loss",
    ),
    # time, parts
    "clock": ("clock", "run NTP on both machines: past 5 s the gateway refuses to grant"),
    "gateway": ("gateway", "see its log and GET /readyz"),
    "centre": ("centre", "see its log and GET /readyz"),
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found; `detail` is one line, without secrets."""

    check: str
    state: State
    detail: str

    @property
    def title(self) -> str:
        return HINTS[self.check][0]

    @property
    def remedy(self) -> str:
        """What to do; "" where nothing is."""
        return "" if self.state == "ok" else HINTS[self.check][1]

    def as_json(self) -> dict[str, str]:
        """As `doctor --json` prints it."""
        return {
            "check": self.check,
            "state": self.state,
            "title": self.title,
            "detail": self.detail,
            "remedy": self.remedy,
        }


def counted(number: int, name: str) -> str:
    """1 broker, 3 brokers."""
    return f"{number:,} {name}" + ("" if number == 1 else "s")


def judged(check: str, good: bool, detail: str, otherwise: State = "bad") -> Finding:
    """ok where `good`, else `otherwise`."""
    return Finding(check, "ok" if good else otherwise, detail)
