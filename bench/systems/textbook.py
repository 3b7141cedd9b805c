"""The textbook design: bench/textbook.py."""

import sys
from pathlib import Path

from bench.books import ONE, OneBooks
from bench.commands import plain_env
from bench.passes import HmacPasses


class Textbook:
    """Starlette, redis-py, one EVALSHA a request."""

    name = "textbook"
    workloads = frozenset({"W1"})

    def __init__(self, passes: HmacPasses) -> None:
        self.passes = passes
        self.books = OneBooks()

    def missing(self) -> str | None:
        return None

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        env = {
            **plain_env(),
            "BENCH_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
            "BENCH_PASS_KEY": self.passes.key,
            "BENCH_SCRIPT": str(ONE),
            "BENCH_PORT": str(port),
        }
        return [sys.executable, "-m", "bench.textbook"], env
