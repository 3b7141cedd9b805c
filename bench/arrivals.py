"""W4, the mixed workload: a crowd that arrives whether or not it is answered, then the audit.

Users are drawn from a large town, and each arrives twice with one key: so there are grants,
replays, and refusals of those who came too late. Against our gateway on a bare Valkey, as the other
workloads, and against `flashgrab up` with relay, broker, worker and ledger on the same cores.
"""

import json
import random
import subprocess
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bench import campaign
from bench.commands import call
from bench.passes import CAMPAIGN, Blake2Passes
from bench.processes import BadRun, Cores, pinned, require
from bench.requests import SEED, head, key
from bench.serving import serving
from bench.stack import up
from bench.systems import go
from bench.systems.floor import Floor
from bench.systems.ours import Ours

TOWN = 1_000_000
COUPONS = 10_000
SECONDS = 10
CONNECTIONS = 1024
CEILING_S = 2
P99_MS_MAX = 250
GRACE_S = 60
DRAIN_S = 120


def missing() -> str | None:
    """Why the generator cannot run here, or None."""
    if sys.platform != "linux":
        return "the generator of arrivals waits with epoll, which only Linux has"
    return go.unbuildable("arrivals")


def run(
    folder: Path, fsyncs: Sequence[str], rate: int, cores: Cores, *, quick: bool = False
) -> list[dict[str, Any]]:
    """One run a condition and one against the whole stack (not if quick). Raises BadRun."""
    passes = Blake2Passes()
    seconds = 3 if quick else SECONDS
    arriving = rate * seconds // 2
    town = max(2 * arriving, COUPONS) if quick else max(TOWN, arriving)
    requests = draw(folder, passes, town=town, users=arriving)
    ceiling = _ceiling(passes, requests, cores)
    ours, found = Ours(passes), []
    for fsync in fsyncs:
        with serving(ours, fsync, COUPONS, cores) as server:
            seen = drive(f"127.0.0.1:{server.port}", requests, rate, cores.driver)
            ours.books.check(server.ask, COUPONS)
        found.append(judge(f"bare Valkey, appendfsync {fsync}", rate, ceiling, seen))
    if not quick:
        found.append(_audited(folder, passes, requests, rate, ceiling))
    return found


def draw(folder: Path, passes: Blake2Passes, *, town: int, users: int) -> Path:
    """Requests of users drawn from a town, each there twice, with one key, in random order."""
    minted, file = folder / "town.passes", folder / "arrivals"
    passes.mint(minted, town, "t")
    tokens = minted.read_text().splitlines()
    lines = [f"{tokens[n]}\n{key(n)}\n" for n in random.Random(SEED).sample(range(town), users)] * 2
    random.Random(SEED).shuffle(lines)
    file.write_text("".join(lines))
    return file


def drive(
    address: str,
    requests: Path,
    rate: int,
    cores: Collection[int],
    *,
    seconds: float = SECONDS,
    connections: int = CONNECTIONS,
) -> dict[str, Any]:
    """What the generator counted; rate 0 is a closed loop of so many seconds. Raises BadRun."""
    port = int(address.rpartition(":")[2])
    command = [str(go.program("arrivals")), "-address", address, "-requests", str(requests)]
    command += ["-head", str(head(requests.parent, port)), "-rate", str(rate)]
    command += ["-connections", str(connections), "-seconds", str(seconds)]
    with pinned(cores):
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False
        )
    if done.returncode:
        raise BadRun(f"arrivals failed: {done.stderr.strip()[-800:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def judge(where: str, rate: int, ceiling: int, seen: dict[str, Any]) -> dict[str, Any]:
    """The row of a run, and which of its targets it missed."""
    statuses = {int(status): n for status, n in seen["statuses"].items()}
    granted, p99_ms = statuses.get(201, 0), seen["p99_us"] / 1000
    odd = sorted(set(statuses) - {200, 201, 409})
    misses = {
        f"{seen['sent'] - seen['answered']} without an answer": seen["sent"] != seen["answered"],
        f"answers {odd}": bool(odd),
        f"{granted} granted": granted != min(COUPONS, seen["sent"] // 2),
        f"p99 {p99_ms:.0f} ms": p99_ms >= P99_MS_MAX,
    }
    missed = [what for what, is_so in misses.items() if is_so]
    return {
        "where": where,
        "rate": rate,
        "ceiling": ceiling,
        "sent": seen["sent"],
        "answered": seen["answered"],
        "statuses": statuses,
        "granted": granted,
        "replayed": statuses.get(200, 0),
        "seconds": seen["micros"] / 1e6,
        "p50_ms": seen["p50_us"] / 1000,
        "p99_ms": p99_ms,
        "max_ms": seen["max_us"] / 1000,
        "late": seen["late"],
        "waited": seen["waited"],
        "late_max_ms": seen["late_max_us"] / 1000,
        "generator_us": seen["cpu_micros"] / max(1, seen["sent"]),
        "missed": missed,
        "ok": not missed,
    }


def _ceiling(passes: Blake2Passes, requests: Path, cores: Cores) -> int:
    """Requests/s of the generator against the floor; 0 where there is no floor."""
    floor = Floor(passes)
    if floor.missing():
        return 0
    with serving(floor, "no", 0, cores) as server:
        address = f"127.0.0.1:{server.port}"
        seen = drive(address, requests, 0, cores.driver, seconds=CEILING_S)
    return int(seen["answered"] * 1e6 / seen["micros"])


def _audited(
    folder: Path, passes: Blake2Passes, requests: Path, rate: int, ceiling: int
) -> dict[str, Any]:
    """The same crowd against the whole stack, nothing pinned, drained, and the full audit."""
    data = folder / "up"
    file = campaign.write(folder / "campaign.toml", CAMPAIGN, COUPONS)
    env = {**passes.env, "FLASHGRAB_DATA": str(data)}
    with up(data, env, "--campaign", str(file)) as gateway:
        seen = drive(gateway.removeprefix("http://"), requests, rate, ())
        audit = ["audit", "--campaign", CAMPAIGN, "--drain", f"{DRAIN_S}s", "--json"]
        verdict = json.loads(call(env, *audit))
    books = verdict["campaigns"][0]
    row = judge("flashgrab up", rate, ceiling, seen)
    wrong = [] if verdict["ok"] else ["audit"]
    require(row["granted"] == books["granted"], f"{books['granted']} in the books: {row}")
    audit_ = {name: books[name] for name in ("granted", "persisted", "invariants")}
    missed = row["missed"] + wrong
    return {**row, "missed": missed, "ok": not missed, "audit": {"ok": verdict["ok"], **audit_}}
