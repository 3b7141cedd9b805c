"""The floor: nginx answers the same request with a constant. What HTTP costs here, no more."""

from pathlib import Path

from bench.commands import plain_env
from bench.passes import Blake2Passes
from bench.systems import nginx

SERVER = """
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            add_header Location /v1/grabs/bench-100000;
            return 200 '{{"grab_id":"bench-100000","campaign_id":"bench","serial":100000}}';
        }}
    }}
"""


class Floor:
    """One worker of nginx, `return 200`."""

    name = "floor"
    workloads = frozenset({"W1", "W2"})

    def __init__(self, passes: Blake2Passes) -> None:
        self.passes = passes
        self.books = None

    def missing(self) -> str | None:
        return None if nginx.program() else nginx.MISSING

    def command(self, redis_port: int, port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
        return nginx.configure(folder, SERVER.format(port=port), []), plain_env()
