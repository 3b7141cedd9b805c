"""What a holder costs: a campaign of many, granted by the real script, and a gateway beside it."""

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench import wrk
from bench.books import Ask
from bench.passes import CAMPAIGN, Blake2Passes
from bench.processes import ROOT, BadRun, Cores, require
from bench.requests import key
from bench.serving import Serving, serving
from bench.systems.ours import Ours

ANSWERED = 100_000
"""Holders that the gateway remembers what the script said of (its KNOWN_MAX)."""
CALL = 1000
ANSWER_S = (8, 16, 32)
LOADED_S_MAX = 60
SETTLE_S = 1.5
"""Until a gateway has read what was published, twice."""
MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Holders:
    """Bytes a holder, unless it says otherwise; the gateway's is RSS, what the system gives it.

    `redis` is all that used_memory has grown by, `redis_lasting` without the outbox: after the
    ledger has all. `loaded_s`: from the first stranger's request until none costs a script call.
    """

    holders: int
    redis: float
    redis_lasting: float
    hash: float
    outbox: float
    gateway_start_mb: float
    filter: float
    loaded_s: float
    answered: int
    known: float
    gateway_end_mb: float


def rss(server: Serving) -> int:
    """Bytes of the gateway."""
    return int(psutil.Process(server.pid).memory_info().rss)


def measure(ours: Ours, folder: Path, cores: Cores, holders: int) -> Holders:
    """One campaign, all granted. Raises BadRun."""
    with serving(ours, "no", holders, cores) as server:
        ask = server.ask
        time.sleep(SETTLE_S)
        start, empty = rss(server), _used(ask)
        grant_all(ask, holders)
        full = _used(ask)
        hash_, outbox = (_size(ask, f"{{c:{CAMPAIGN}}}:{name}") for name in ("holders", "outbox"))
        settle = (ROOT / "lua" / "settle.lua").read_text()
        touched = (f"{{c:{CAMPAIGN}}}", f"{{c:{CAMPAIGN}}}:outbox")
        ask("EVAL", settle, 2, *touched, "1", holders, "")
        lasting = _used(ask)

        time.sleep(SETTLE_S)
        loaded_s = load_filter(server, ours.passes, folder)
        loaded = rss(server)
        answered = answer(server, ours.passes, folder, cores, min(ANSWERED, holders))
        end = rss(server)
        return Holders(
            holders=holders,
            redis=(full - empty) / holders,
            redis_lasting=(lasting - empty) / holders,
            hash=hash_ / holders,
            outbox=outbox / holders,
            gateway_start_mb=start / MB,
            filter=(loaded - start) / holders,
            loaded_s=loaded_s,
            answered=answered,
            known=(end - loaded) / answered,
            gateway_end_mb=end / MB,
        )


def grant_all(ask: Ask, holders: int) -> None:
    """By the script, CALL requests a call, keys as browsers make them. Raises BadRun."""
    sha = ask("SCRIPT", "LOAD", (ROOT / "lua" / "grab.lua").read_text())
    name = f"{{c:{CAMPAIGN}}}"
    touched = [name, *(f"{name}:{x}" for x in ("holders", "devices", "outbox", "r:1", "r:1"))]
    head = ["1", "1", ask("INFO", "server")["run_id"], "0", "1", "0"]
    head.append(ask("HGET", f"{name}:r:1", "closes_at"))
    for first in range(0, holders, CALL):
        args: list[str] = []
        for n in range(first, min(first + CALL, holders)):
            args += (f"user-{n}", "", key(n))
        reply = ask("EVALSHA", sha, len(touched), *touched, *head, *args)
        require(reply[0] == 0, f"grab.lua answered {reply[:7]}")
    left, granted = ask("HMGET", f"{name}:r:1", "left", "granted")
    require((int(left), int(granted)) == (0, holders), f"{granted} granted of {holders}")


def load_filter(server: Serving, passes: Blake2Passes, folder: Path) -> float:
    """Ask as strangers until that costs no script call; how long that took (s)."""
    file = folder / "strangers"
    passes.mint(file, LOADED_S_MAX * 10, "stranger-")
    began = time.monotonic()
    calls = -1
    for token in file.read_text().splitlines():
        status, code = server.grab(token, "k")
        require((status, code) == (409, "SOLD_OUT"), f"a stranger was told {status} {code}")
        if calls == (calls := server.read().script_calls):
            return time.monotonic() - began
        time.sleep(0.1)
    raise BadRun(f"the holders are not loaded after {LOADED_S_MAX} s")


def answer(server: Serving, passes: Blake2Passes, folder: Path, cores: Cores, wanted: int) -> int:
    """Let so many holders ask with another key. Returns how many were asked about."""
    minted, file = folder / "holders", folder / "holders.again"
    passes.mint(minted, wanted, "user-")
    tokens = minted.read_text().splitlines()
    file.write_text("".join(f"{token}\n{key(1 << 40 | n)}\n" for n, token in enumerate(tokens)))
    for seconds in ANSWER_S:  # each begins with the first holder
        seen = wrk.drive(
            server.port, file, connections=64, seconds=seconds, cores=cores.driver, again=True
        )
        require(seen.refused == seen.requests and seen.broken == 0, f"wrong answers: {seen}")
        if seen.requests >= wanted:
            return wanted
    raise BadRun(f"{seen.requests} of {wanted} holders were answered in {seconds} s")


def _used(ask: Ask) -> int:
    return int(ask("INFO", "memory")["used_memory"])


def _size(ask: Ask, name: str) -> int:
    return int(ask("MEMORY", "USAGE", name, "SAMPLES", 0) or 0)
