"""Go given our own batching and our own script: what is left is the language and its HTTP."""

from pathlib import Path

from bench.books import CampaignBooks
from bench.commands import plain_env
from bench.passes import Blake2Passes
from bench.processes import ROOT
from bench.systems import go


class GoBatched:
    """bench/go/batched."""

    name = "go-batched"
    workloads = frozenset({"W1"})

    def __init__(self, passes: Blake2Passes) -> None:
        self.passes = passes
        self.books = CampaignBooks(replays=False)

    def missing(self) -> str | None:
        return go.unbuildable("batched")

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        env = {
            **plain_env(),
            "BENCH_REDIS": f"127.0.0.1:{redis_port}",
            "BENCH_MAC_KEY": self.passes.mac_key,
            "BENCH_SCRIPT": str(ROOT / "lua" / "grab.lua"),
            "BENCH_PORT": str(port),
        }
        return [str(go.program("batched"))], env
