"""`flashgrab gateway` as a process of its own, and a campaign for it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx2
import psutil
from prometheus_client.parser import text_string_to_metric_families

from flashgrab import scripts
from flashgrab.keys import REGISTRY
from flashgrab.passes import PassKeys, issue
from tests.gateway.serving import HOUR_MS, IDENTITY_KEY, PASS_KEYS
from tests.lua.server import Client, Valkey

COMMAND = [sys.executable, "-P", "-m", "flashgrab.cli", "gateway"]
UP_S = 20


def until(what: str, met: Callable[[], Any], within_s: float = UP_S) -> Any:
    """Wait for a condition, and give its value; fails naming it."""
    end = time.monotonic() + within_s
    while True:
        if value := met():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within_s} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def environment(server: Valkey, **changes: str) -> dict[str, str]:
    """A whole environment of a gateway on free ports, nothing of this one's."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    values = {
        "REDIS_URL": server.url,
        "PASS_KEYS": PASS_KEYS,
        "IDENTITY_KEY": IDENTITY_KEY,
        "PORT": str(free_port()),
        "METRICS_PORT": str(free_port()),
        **changes,
    }
    return clean | {f"FLASHGRAB_{name}": value for name, value in values.items()}


class Running:
    """A gateway as a process; what it says goes to a file."""

    def __init__(
        self, env: Mapping[str, str], *arguments: str, command: Sequence[str] = COMMAND
    ) -> None:
        self.url = f"http://127.0.0.1:{env['FLASHGRAB_PORT']}"
        self.metrics_url = f"http://127.0.0.1:{env['FLASHGRAB_METRICS_PORT']}/metrics"
        # A client makes a TLS context (50 ms of CPU). Connections are not kept: each request may
        # reach another process of the port.
        self.http = httpx2.Client(limits=httpx2.Limits(max_keepalive_connections=0))
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self.process = subprocess.Popen(
            [*command, *arguments], env=env, stdout=self._said, stderr=self._said
        )

    @property
    def said(self) -> str:
        self._said.seek(0)
        return self._said.read()

    @property
    def children(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def is_ready(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}: {self.said}")
        try:
            return self.http.get(self.url + "/readyz").status_code == 200
        except httpx2.TransportError:
            return False

    def knows(self, campaign_id: str) -> bool:
        """Whether it has read this campaign."""
        return self.http.get(f"{self.url}/v1/campaigns/{campaign_id}").status_code == 200

    def grab(self, campaign_id: str, user: str, timeout_s: float = 5) -> httpx2.Response:
        expires_ms = int(time.time() * 1000) + HOUR_MS
        token = issue(PassKeys.parse(PASS_KEYS), campaign_id, user, "", expires_ms)
        headers = {"authorization": f"Bearer {token}", "idempotency-key": "k"}
        path = f"{self.url}/v1/campaigns/{campaign_id}/grabs"
        return self.http.post(path, headers=headers, timeout=timeout_s)

    def counted(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that carry these labels."""
        text = self.http.get(self.metrics_url).text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def close(self) -> None:
        children = self.children if self.process.poll() is None else []
        for pid in [self.process.pid, *children]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.http.close()
        self._said.close()


@contextlib.contextmanager
def running(
    env: Mapping[str, str], *arguments: str, command: Sequence[str] = COMMAND
) -> Iterator[Running]:
    """A gateway until the block ends, ready."""
    gateway = Running(env, *arguments, command=command)
    try:
        until("the gateway is ready", gateway.is_ready)
        yield gateway
    finally:
        gateway.close()


def publish(
    server: Valkey, campaign_id: str, quota: int = 1000, schema: str = scripts.SCHEMA
) -> None:
    """A campaign that is open."""
    client = Client(server.path)
    now_ms = client.now_ms()
    run = next(
        line[7:] for line in client.call("INFO", "server").split("\r\n") if line[:7] == "run_id:"
    )
    definition = '{"name": "A test", "rule": {}}'
    args = [schema, 1, run, 1, "op", definition, 1, 0, 10**6]
    touched = [f"{{c:{campaign_id}}}", f"{{c:{campaign_id}}}:r:1"]
    client.script(scripts.PUBLISH, touched, [*args, now_ms - 1000, now_ms + HOUR_MS, quota])
    client.call("SADD", REGISTRY, campaign_id)
    client.close()


def is_alive(pid: int) -> bool:
    """Not gone, and not a zombie that nobody has buried yet."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
