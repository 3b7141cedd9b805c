"""The centre as a process of its own, as `flashgrab centre` runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from flashgrab.cli.stack.ports import free_port
from tests.centre.serving import ADMIN_TOKEN, Servers

COMMAND = [sys.executable, "-P", "-m", "flashgrab.cli", "centre"]
READY_S_MAX = 20.0


def environment(servers: Servers, port: int, **changes: str) -> dict[str, str]:
    """What a centre is told, and nothing of the caller's own Flashgrab."""
    told = {
        "REDIS_URL": servers.redis_url,
        "POSTGRES_URL": servers.postgres_url,
        "ADMIN_TOKEN": ADMIN_TOKEN,
        "CENTRE_PORT": str(port),
        "METRICS_PORT": "0",
        **changes,
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    return clean | {f"FLASHGRAB_{name}": value for name, value in told.items()}


@contextmanager
def centre_process(servers: Servers, **changes: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A ready centre and its address; killed at the end of the block if it still runs."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        COMMAND, env=environment(servers, port, **changes), stderr=subprocess.PIPE, text=True
    )
    try:
        _wait_ready(process, url)
        yield process, url
    finally:
        process.kill()
        process.communicate()


def _wait_ready(process: subprocess.Popen[str], url: str) -> None:
    until = time.monotonic() + READY_S_MAX
    with httpx2.Client(base_url=url, verify=False) as http:
        while process.poll() is None and time.monotonic() < until:
            try:
                if http.get("/readyz").status_code == 200:
                    return
            except httpx2.TransportError:
                pass
            time.sleep(0.02)
    raise AssertionError(f"the centre is not ready, exit status {process.poll()}")
