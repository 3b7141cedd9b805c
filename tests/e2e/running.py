"""A whole stack under `flashgrab up`, as its users run it: by the command line, HTTP and files."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil

from flashgrab.cli.campaigns import Centre, new_operation
from flashgrab.model import parse_toml

READY_S = 40
HTTP = httpx2.Client(
    timeout=10, trust_env=False, verify=False, limits=httpx2.Limits(max_keepalive_connections=0)
)
"""One for all, a connection for each request: to make a client takes as long as a hundred of them,
since it loads the certificates."""
COMMAND = [sys.executable, "-P", "-m", "flashgrab.cli"]


def until(what: str, met: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for a condition, and give its value; fails naming it."""
    end = time.monotonic() + seconds
    while True:
        if value := met():
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Stack:
    """One `flashgrab up` in a folder of its own."""

    def __init__(self, data: Path, *arguments: str, environment: Mapping[str, str] | None = None):
        self.data = data
        self._arguments = arguments
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
        self._environment = {**clean, **(environment or {})}
        self.process: subprocess.Popen[str] | None = None
        self.gateway_url = ""
        self.centre_url = ""
        self.output: list[str] = []
        self.ready_s = 0.0
        self._begun: list[subprocess.Popen[str]] = []

    def start(self) -> "Stack":
        """Until the `ready` line."""
        started = time.monotonic()
        self.process = subprocess.Popen(
            [
                *COMMAND,
                "up",
                "--data",
                str(self.data),
                "--port",
                "0",
                "--centre-port",
                "0",
                *list(self._arguments),
            ],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.output = []
        for line in self.process.stdout:
            self.output.append(line.rstrip())
            if line.startswith("ready "):
                words = dict(word.split("=", 1) for word in line.split()[1:])
                self.gateway_url, self.centre_url = words["gateway"], words["centre"]
                self.ready_s = time.monotonic() - started
                return self
        raise AssertionError("up did not get ready:\n" + "\n".join(self.output) + self.logs())

    def stop(self, seconds: float = 40) -> int:
        """SIGTERM, and wait: the exit status."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        try:
            rest, _ = self.process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        self.output += rest.splitlines()
        return self.process.returncode

    def end(self) -> None:
        """Whatever happened in the test, leave nothing running."""
        for begun in self._begun:
            if begun.poll() is None:
                begun.kill()
                begun.communicate()
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.stop()
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()

    def logs(self) -> str:
        """The ends of all logs, for a failed test."""
        ends = {
            log.name: log.read_text().splitlines()[-30:]
            for log in sorted((self.data / "logs").glob("*.log"))
        }
        return "\n".join(f"--- {name}\n" + "\n".join(lines) for name, lines in ends.items())

    def run_json(self) -> dict[str, list[dict[str, Any]]]:
        found: dict[str, list[dict[str, Any]]] = json.loads((self.data / "run.json").read_text())
        return found

    def secrets(self) -> dict[str, str]:
        lines = (self.data / "secrets.env").read_text().splitlines()
        pairs = (line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        return {name: value.strip("'\"") for name, value in pairs}

    def kill(self, part: str) -> int:
        """kill -9 of one part; returns the process id that is gone."""
        pid = int(self.run_json()[part][0]["pid"])
        os.kill(pid, signal.SIGKILL)
        return pid

    def back(self, part: str, old_pid: int, seconds: float = 20) -> None:
        """Until the part runs again under another process id."""

        def running() -> bool:
            found = self.run_json().get(part) or []
            return bool(found) and found[0]["pid"] not in (None, old_pid)

        until(f"{part} is back", running, seconds)

    def command(self, *arguments: str, seconds: float = 90) -> subprocess.CompletedProcess[str]:
        """One `flashgrab` command against this stack."""
        return subprocess.run(
            [*COMMAND, *arguments, "--data", str(self.data)],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def begin(self, *arguments: str) -> "subprocess.Popen[str]":
        """The same, to be waited for by the caller; killed with the stack if it still runs."""
        begun = subprocess.Popen(
            [*COMMAND, *arguments, "--data", str(self.data)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._begun.append(begun)
        return begun

    def audit(self, *arguments: str) -> dict[str, Any]:
        """`flashgrab audit --drain 30s --json`, and its verdict."""
        done = self.command("audit", "--drain", "30s", "--json", *arguments)
        assert done.returncode in (0, 1), done.stderr
        verdict: dict[str, Any] = json.loads(done.stdout)
        assert (done.returncode == 0) == verdict["ok"]
        return verdict

    def campaign(self, text: str) -> str:
        """Create and publish what a campaign file says; its id."""
        definition = parse_toml(text, "a test")
        campaign_id = definition.id
        with Centre(self.centre_url, self.secrets()["FLASHGRAB_ADMIN_TOKEN"]) as centre:
            centre.create(definition, new_operation())
            done = centre.change(campaign_id, "publish", new_operation())
        assert done.get("applied", True), done
        until("the gateway knows it", lambda: self.get(f"/v1/campaigns/{campaign_id}") is not None)
        return campaign_id

    def get(self, path: str, **headers: str) -> Any:
        """The JSON at a path of the gateway, None where it is not 200 or nobody answers."""
        try:
            response = HTTP.get(self.gateway_url + path, headers=headers)
        except httpx2.TransportError:
            return None
        return response.json() if response.status_code == 200 else None

    def children(self) -> list[psutil.Process]:
        """Everything that `up` started and that still runs."""
        assert self.process is not None
        try:
            return psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []


@contextmanager
def stack(
    data: Path, *arguments: str, environment: Mapping[str, str] | None = None
) -> Iterator[Stack]:
    """A running stack, stopped with the block; its logs are shown when the block fails."""
    running = Stack(data, *arguments, environment=environment)
    try:
        yield running.start()
    except BaseException:
        print(running.logs(), file=sys.stderr)
        raise
    finally:
        running.end()


def simple(campaign_id: str, quota: int = 100, opens: str = "now", more: str = "") -> str:
    """A campaign file of one round."""
    return f"""
id = "{campaign_id}"
name = "Test {campaign_id}"
{more}
[rule]
kind = "amount_off"
amount = 3000
threshold = 20000
[[rounds]]
opens_at = "{opens}"
closes_at = "+2h"
quota = {quota}
"""
