"""Go: fasthttp, and rueidis that pipelines by itself; one EVALSHA a request."""

from pathlib import Path

from bench.books import ONE, OneBooks
from bench.commands import plain_env
from bench.passes import Blake2Passes
from bench.systems import go


class GoPipelined:
    """bench/go/pipelined."""

    name = "go-pipelined"
    workloads = frozenset({"W1", "W2", "W3"})

    def __init__(self, passes: Blake2Passes) -> None:
        self.passes = passes
        self.books = OneBooks()

    def missing(self) -> str | None:
        return go.unbuildable("pipelined")

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        env = {
            **plain_env(),
            "BENCH_REDIS": f"127.0.0.1:{redis_port}",
            "BENCH_MAC_KEY": self.passes.mac_key,
            "BENCH_SCRIPT": str(ONE),
            "BENCH_PORT": str(port),
        }
        return [str(go.program("pipelined"))], env
