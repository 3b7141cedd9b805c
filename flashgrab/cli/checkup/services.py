"""Redis, PostgreSQL and Kafka as they are set up: is what was acknowledged on disk?"""

import re
from collections.abc import Mapping
from typing import Any

from flashgrab import keys, scripts
from flashgrab.broker.replication import read_replication
from flashgrab.cli.checkup.hints import Finding, counted, judged
from flashgrab.clock import Clock
from flashgrab.errors import BrokerUnavailable, LedgerUnavailable, StoreRefused, StoreUnavailable
from flashgrab.ledger.checkup import read_server
from flashgrab.ledger.revision import head
from flashgrab.store import OUTBOX_MAX, Store
from gateway.redis_clock import SKEW_MS_MAX

REDIS_MIN = (7, 0)
POSTGRES_MIN = 15
CONNECTIONS_MIN = 30
"""A worker, a centre, some commands, and as much for those that are started again."""
CLOCK_OFF_MS = 1000
FACT_BYTES = 70
"""Of a fact in the outbox: 61 measured with a million (bench/memory.py)."""
ASK_MS = 10_000
"""A machine that is busy is no service that is gone."""


async def redis(url: str, clock: Clock) -> list[Finding]:
    """Version, role, durability, memory, scripts and clock."""
    try:
        async with Store(url, ASK_MS) as store:
            info = await store.server_info()
            asked = clock.now_ms()
            theirs = await store.now_ms()
            return [
                _redis_version(info),
                judged("redis-role", info["role"] == "master", f"it is a {info['role']}"),
                *await _redis_settings(store, info),
                await _replica(store, info),
                await _scripts(store),
                _clock("Redis", theirs - asked),
            ]
    except (StoreUnavailable, StoreRefused) as error:
        return [Finding("redis", "bad", str(error))]


def _redis_version(info: Mapping[str, Any]) -> Finding:
    name = "valkey" if "valkey_version" in info else "redis"
    text = str(info[f"{name}_version"])
    return judged("redis-version", _numbers(text) >= REDIS_MIN, f"{name} {text}")


async def _redis_settings(store: Store, info: Mapping[str, Any]) -> list[Finding]:
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "save")
    try:
        said = await store.server_settings(*names, "maxmemory-policy", "maxmemory")
    except StoreRefused as error:
        return [Finding("redis-settings", "warn", f"it does not show them ({error})")]
    aof = f"appendonly {said['appendonly']}, appendfsync {said['appendfsync']}"
    rewrite = said["no-appendfsync-on-rewrite"]
    policy = said["maxmemory-policy"]
    return [
        judged("redis-aof", aof == "appendonly yes, appendfsync always", aof),
        judged("redis-rewrite", rewrite == "no", f"no-appendfsync-on-rewrite {rewrite}"),
        judged("redis-save", not said["save"], f'save "{said["save"]}"', "warn"),
        judged("redis-eviction", policy == "noeviction", f"maxmemory-policy {policy}"),
        _memory(int(said["maxmemory"]), int(info["used_memory"])),
    ]


def _memory(limit: int, used: int) -> Finding:
    need = used + OUTBOX_MAX * FACT_BYTES
    why = f"a full outbox ({OUTBOX_MAX:,} facts) needs {_mib(need)} with what is there now"
    if limit == 0:
        return Finding("redis-memory", "warn", f"maxmemory is not set; {why}")
    return judged("redis-memory", limit >= need, f"maxmemory {_mib(limit)}; {why}")


async def _replica(store: Store, info: Mapping[str, Any]) -> Finding:
    """Who asks for a replica, and whether one listens."""
    listening = sum(
        said.get("state") == "online"
        for name, said in info.items()
        if re.fullmatch(r"slave\d+", name) and isinstance(said, Mapping)
    )
    waiting = [
        campaign_id
        for campaign_id in sorted(await store.registry())
        if (state := await store.read(campaign_id)) is not None and state.waits_for_replica
    ]
    if not waiting:
        return Finding("redis-replica", "ok", f"{listening} listen, no campaign asks for one")
    said = f"{listening} listen, {', '.join(waiting[:3])} ask for one"
    return judged("redis-replica", listening > 0, said)


async def _scripts(store: Store) -> Finding:
    """Whether EVALSHA finds them. Gateways load theirs when they connect, the others come with
    their first call."""
    try:
        known = await store.known_scripts()
    except StoreRefused as error:
        return Finding("redis-scripts", "bad", str(error))
    if scripts.GRAB not in known:
        said = f"{len(known)} are loaded, and the grab is not: no gateway has connected"
        return Finding("redis-scripts", "warn", said)
    said = f"{len(known)} of {len(scripts.ALL)} are loaded, the others come with their first call"
    return Finding("redis-scripts", "ok", said)


async def limiter(url: str, stock_url: str) -> list[Finding]:
    """The rate limits' server: another one than the stock's, nothing on disk, eviction."""
    try:
        async with Store(url, ASK_MS) as store:
            info = await store.server_info()
            reached = Finding("limiter", "ok", "it answers")
            try:
                said = await store.server_settings("appendonly", "save", "maxmemory-policy")
                most = await store.server_settings("maxmemory")
            except StoreRefused as error:
                return [reached, Finding("redis-settings", "warn", f"the limiter's: {error}")]
    except (StoreUnavailable, StoreRefused) as error:
        return [Finding("limiter", "warn", str(error))]
    disk = f'appendonly {said["appendonly"]}, save "{said["save"]}"'
    policy, size = said["maxmemory-policy"], int(most["maxmemory"])
    evicts = policy.startswith("allkeys-") and size > 0
    return [
        reached,
        await _apart(str(info.get("run_id", "")), stock_url),
        judged("limiter-disk", disk == 'appendonly no, save ""', disk, "warn"),
        judged("limiter-eviction", evicts, f"maxmemory {_mib(size)}, {policy}", "warn"),
    ]


async def _apart(run_id: str, stock_url: str) -> Finding:
    try:
        async with Store(stock_url, ASK_MS) as stock:
            same = str((await stock.server_info()).get("run_id", "")) == run_id
    except (StoreUnavailable, StoreRefused):
        same = False  # it is said elsewhere
    said = "it is the stock's server" if same else "it is a server of its own"
    return judged("limiter-apart", not same, said)


async def postgres(url: str, clock: Clock) -> list[Finding]:
    """Version, durability, schema and clock."""
    try:
        server = await read_server(url, clock)
    except LedgerUnavailable as error:
        return [Finding("postgres", "bad", str(error))]
    durable = server.settings
    good = durable["fsync"] == durable["full_page_writes"] == "on" and durable[
        "synchronous_commit"
    ] not in ("off", "local")
    most = server.connections_max
    return [
        judged("postgres-version", server.version >= POSTGRES_MIN, f"PostgreSQL {server.version}"),
        judged("postgres-fsync", good, ", ".join(f"{k} {v}" for k, v in durable.items())),
        judged("postgres-connections", most >= CONNECTIONS_MIN, f"max_connections {most}", "warn"),
        _schema(server.revision),
        _clock("PostgreSQL", server.ahead_ms),
    ]


def _schema(revision: str) -> Finding:
    ours = head()
    if revision > ours:
        return Finding("schema-newer", "bad", f"{revision} is newer than this release's {ours}")
    said = f"{revision or 'none yet'}, this release has {ours}"
    return judged("schema", revision == ours, revision if revision == ours else said, "warn")


async def kafka(bootstrap: str, workers: int = 1) -> list[Finding]:
    """Reachable, the topic, its partitions, its copies."""
    try:
        copies = await read_replication(bootstrap, keys.GRABS_TOPIC, deadline_ms=ASK_MS)
    except BrokerUnavailable as error:
        return [Finding("kafka", "bad", str(error))]
    reached = Finding("kafka", "ok", counted(copies.brokers, "broker"))
    if not copies.partitions:
        return [reached, Finding("kafka-topic", "warn", f"no topic {keys.GRABS_TOPIC} yet")]
    in_sync = "not told" if copies.in_sync_min is None else str(copies.in_sync_min)
    return [
        reached,
        Finding("kafka-topic", "ok", f"{keys.GRABS_TOPIC} with {copies.partitions} partitions"),
        judged(
            "kafka-partitions",
            copies.partitions >= workers,
            f"{copies.partitions} for {counted(workers, 'worker')}",
            "warn",
        ),
        judged(
            "kafka-replicas",
            copies.replicas >= 2 and (copies.in_sync_min or 2) >= 2,
            f"replicas {copies.replicas}, min.insync.replicas {in_sync}",
            "warn",
        ),
    ]


def _clock(whose: str, ahead_ms: int) -> Finding:
    off = abs(ahead_ms)
    said = (
        f"the clock of {whose} is {off:,} ms {'ahead of' if ahead_ms > 0 else 'behind'} this one's"
    )
    if off > SKEW_MS_MAX:  # a gateway refuses to grant
        return Finding("clock", "bad", said)
    return judged("clock", off <= CLOCK_OFF_MS, said, "warn")


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text)[:2])


def _mib(size_bytes: int) -> str:
    return f"{size_bytes // 1024**2:,} MiB"
