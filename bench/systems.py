"""The systems that are compared: how each is fed with passes, set up, started and checked.

Ours runs here on a bare Valkey, without relay, worker and ledger, so that the two cores carry only
what is measured. Setting up that Valkey is the centre's work elsewhere; here it is the same script
(lua/publish.lua), called by hand. The run with everything is bench/audited.py.
"""

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from bench import textbook
from bench.processes import ROOT, require

CAMPAIGN = "bench"
PATH = f"/v1/campaigns/{CAMPAIGN}/grabs"
QUOTA = 10_000_000
HOUR_MS = 3_600_000
PAGE = 1000

Ask = Callable[..., Any]
"""One Redis command: its words in, its reply out."""


class System(Protocol):
    """One system of the comparison."""

    name: str

    def mint(self, file: Path, users: int, prefix: str) -> None:
        """Write passes of users PREFIX0…, one a line."""
        ...

    def prepare(self, ask: Ask) -> None:
        """Put a stock of QUOTA into an empty Valkey."""
        ...

    def command(self, redis_url: str, port: int) -> tuple[list[str], dict[str, str]]:
        """Argument vector and environment of the server, one process."""
        ...

    def granted(self, ask: Ask) -> int:
        """How many it has granted so far."""
        ...

    def check_books(self, ask: Ask) -> None:
        """Hold its counters, holders and outbox against each other. Raises BadRun."""
        ...


class Ours:
    """Flashgrab's gateway: the ordinary route, batched."""

    name = "flashgrab"

    def __init__(self) -> None:
        self._env = {**plain_env(), "FLASHGRAB_PASS_KEYS": f"k1:{secrets.token_hex(20)}"}

    def mint(self, file: Path, users: int, prefix: str) -> None:
        mint(self._env, file, users, prefix)

    def prepare(self, ask: Ask) -> None:
        seconds, micros = ask("TIME")
        opens_at = int(seconds) * 1000 + int(micros) // 1000
        run = ask("INFO", "server")["run_id"]
        definition = json.dumps({"name": "Bench", "rule": {}})
        schema = "1"
        args: list[str | int] = [schema, 1, run, 1, "bench", definition, 1, 0, QUOTA]
        args += [opens_at, opens_at + HOUR_MS, QUOTA]
        publish = (ROOT / "lua" / "publish.lua").read_text()
        reply = ask("EVAL", publish, 2, _key(), _key(":r:1"), *args)
        require(reply == [0], f"publish.lua answered {reply}")
        ask("SADD", "flashgrab:campaigns", CAMPAIGN)

    def command(self, redis_url: str, port: int) -> tuple[list[str], dict[str, str]]:
        settings = {
            "FLASHGRAB_REDIS_URL": redis_url,
            "FLASHGRAB_PORT": str(port),
            "FLASHGRAB_METRICS_PORT": "0",
        }
        return [*flashgrab(), "gateway"], {**self._env, **settings}

    def granted(self, ask: Ask) -> int:
        return int(ask("HGET", _key(":r:1"), "granted"))

    def check_books(self, ask: Ask) -> None:
        campaign = _numbers(ask("HMGET", _key(), "serial", "seq"))
        left, granted = _numbers(ask("HMGET", _key(":r:1"), "left", "granted"))
        require(left + granted == QUOTA, f"left {left} + granted {granted} is not {QUOTA}")
        require(campaign == [granted, granted], f"serial, seq {campaign} are not {granted}")
        holders = ask("HLEN", _key(":holders"))
        require(holders == granted, f"{holders} holders of {granted} coupons")
        serial = 0
        for entry_id, fields in _entries(ask, _key(":outbox")):
            require(int(fields["first"]) == serial + 1, f"a gap in the outbox before {entry_id}")
            for fact in fields["facts"].split(";"):
                serial += 1
                require(fact.startswith(f"g,{serial},"), f"fact {serial} is {fact}")
            require(entry_id == f"{serial}-0", f"entry {entry_id} ends with fact {serial}")
        require(serial == granted, f"{serial} facts in the outbox of {granted} coupons")


class Textbook:
    """bench/textbook.py."""

    name = "textbook"

    def __init__(self) -> None:
        self._key = secrets.token_hex(20)

    def mint(self, file: Path, users: int, prefix: str) -> None:
        key = self._key.encode()
        with file.open("w") as out:
            for number in range(users):
                out.write(textbook.sign(key, CAMPAIGN, f"{prefix}{number}", 1 << 40) + "\n")

    def prepare(self, ask: Ask) -> None:
        ask("HSET", textbook.STOCK, "left", QUOTA, "granted", 0)

    def command(self, redis_url: str, port: int) -> tuple[list[str], dict[str, str]]:
        env = {
            **plain_env(),
            "BENCH_REDIS_URL": redis_url,
            "BENCH_PASS_KEY": self._key,
            "BENCH_PORT": str(port),
        }
        return [sys.executable, "-m", "bench.textbook"], env

    def granted(self, ask: Ask) -> int:
        return int(ask("HGET", textbook.STOCK, "granted"))

    def check_books(self, ask: Ask) -> None:
        left, granted = _numbers(ask("HMGET", textbook.STOCK, "left", "granted"))
        require(left + granted == QUOTA, f"left {left} + granted {granted} is not {QUOTA}")
        holders, entries = ask("HLEN", textbook.HOLDERS), ask("XLEN", textbook.OUTBOX)
        require(holders == entries == granted, f"{holders} holders, {entries} entries: {granted}")


def flashgrab() -> list[str]:
    """The command line of this checkout, in this Python."""
    return [sys.executable, "-m", "flashgrab.cli"]


def plain_env() -> dict[str, str]:
    """The environment without settings of ours, which may name another stack."""
    return {name: v for name, v in os.environ.items() if not name.startswith("FLASHGRAB_")}


def call(env: Mapping[str, str], *command: str) -> str:
    """What a `flashgrab` command prints; bad news (1) included. Raises BadRun."""
    done = subprocess.run(
        [*flashgrab(), *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    require(done.returncode in {0, 1}, f"flashgrab {command[0]}: {done.stderr.strip()}")
    return done.stdout


def mint(env: Mapping[str, str], file: Path, users: int, prefix: str) -> None:
    """Passes of users PREFIX0… by `flashgrab pass mint`, one a line. Raises BadRun."""
    words = ["pass", "mint", "--campaign", CAMPAIGN, "--users", str(users)]
    call(env, *words, "--prefix", prefix, "--out", str(file))


def _key(rest: str = "") -> str:
    return f"{{c:{CAMPAIGN}}}{rest}"


def _numbers(reply: list[str]) -> list[int]:
    return [int(number) for number in reply]


def _entries(ask: Ask, stream: str) -> Iterator[tuple[str, dict[str, str]]]:
    start = "-"
    while page := ask("XRANGE", stream, start, "+", "COUNT", PAGE):
        yield from page
        start = f"({page[-1][0]}"
