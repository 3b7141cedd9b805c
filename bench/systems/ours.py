"""Flashgrab's gateway, one process, as `flashgrab gateway` starts it."""

from collections.abc import Mapping
from pathlib import Path

from bench.books import CampaignBooks
from bench.commands import flashgrab
from bench.passes import Blake2Passes


class Ours:
    """The whole contract: replay by key, rounds, epoch, run, floor, dense seqs, metrics."""

    workloads = frozenset({"W1", "W2", "W3"})

    def __init__(
        self,
        passes: Blake2Passes,
        name: str = "flashgrab",
        durability: str = "fsync",
        limits: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.passes = passes
        self.books = CampaignBooks(replays=True, durability=durability, limits=limits)

    def missing(self) -> str | None:
        return None

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        settings = {
            "FLASHGRAB_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
            "FLASHGRAB_PORT": str(port),
            "FLASHGRAB_METRICS_PORT": "0",
            "FLASHGRAB_CONNECTIONS_PER_ADDRESS": "0",  # the whole crowd has one
        }
        return [*flashgrab(), "gateway"], {**self.passes.env, **settings}
