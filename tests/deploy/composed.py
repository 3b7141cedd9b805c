"""docker-compose.yml as Compose would read it: variables filled in, and its services as processes.

No container engine is at hand. So a service's own command, environment, configuration files and
health check run here as they stand; only what a container would give them is mapped: addresses of
other services and ports to free ones of 127.0.0.1, its files to a folder, its programs to ours.
"""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flashgrab.cli.stack.ports import free_port
from tests.services.apache_kafka import _die_with_parent

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\$|\$\{(\w+)(?::(-|\?)([^}]*))?\}|\$(\w+)")
HEALTHY_S = 90
"""Generous: they start side by side on a busy machine."""


def source() -> dict[str, Any]:
    """The file as data: merge keys resolved, variables not yet filled in."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


def filled(value: Any, variables: Mapping[str, str]) -> Any:
    """Compose's interpolation: ${A:-default}, ${A:?message}, $$ for a dollar."""
    if isinstance(value, dict):
        return {key: filled(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [filled(item, variables) for item in value]
    return (
        VARIABLE.sub(lambda m: _variable(m, variables), value) if isinstance(value, str) else value
    )


def _variable(match: "re.Match[str]", variables: Mapping[str, str]) -> str:
    name = match[1] or match[4]
    if name is None:
        return "$"
    if given := variables.get(name):
        return given
    if match[2] == "-":
        return match[3]
    raise KeyError(f"{name}: {match[3] or 'not set'}")


def names(text: str) -> set[str]:
    """The variables that a text asks for."""
    return {name for m in VARIABLE.finditer(text) if (name := m[1] or m[4])}


def seconds(text: str) -> float:
    """A duration of Compose, of the forms that the file uses."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m)", text).groups()  # type: ignore[union-attr]
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


@dataclass
class Machine:
    """Where the containers' ports and files are here."""

    folder: Path
    ports: dict[tuple[str, int], int] = field(default_factory=dict)

    def port(self, service: str, number: int) -> int:
        return self.ports.setdefault((service, number), free_port())

    def mapped(self, service: str, text: str, hosts: Sequence[str]) -> str:
        """Addresses as `host:port` in a text; its own are 127.0.0.1, 0.0.0.0 and its name."""
        own = {"127.0.0.1", "0.0.0.0", service}

        def here(match: "re.Match[str]") -> str:
            where = service if match[1] in own else match[1]
            return f"127.0.0.1{match[2]}{self.port(where, int(match[3]))}"

        among = "|".join(map(re.escape, sorted(own | set(hosts), key=len, reverse=True)))
        text = re.sub(rf"(?<![\w.-])({among})([:/])(\d{{4,5}})\b", here, text)
        return "127.0.0.1" if text == "0.0.0.0" else text


@dataclass
class Service:
    """One service as a process here."""

    name: str
    argv: list[str]
    environment: Mapping[str, str]
    check: list[str]
    grace_s: float
    log: Path
    user: Mapping[str, Any] = field(default_factory=dict)
    process: "subprocess.Popen[bytes] | None" = None

    def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.argv,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                preexec_fn=_die_with_parent,  # noqa: PLW1509 (prctl is all that it calls)
                **self.user,
            )

    def is_healthy(self) -> bool:
        """By its own health check, as Compose would run it."""
        done = subprocess.run(
            self.check, env=self.environment, capture_output=True, timeout=20, check=False
        )
        return done.returncode == 0

    def wait_healthy(self) -> None:
        assert self.process is not None
        end = time.monotonic() + HEALTHY_S
        while not self.is_healthy():
            assert self.process.poll() is None, f"{self.name} has ended\n{self.said()}"
            assert time.monotonic() < end, f"{self.name} is not healthy\n{self.said()}"
            time.sleep(0.5)

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self, number: int) -> int:
        """As `docker compose stop` does: the signal, the grace period, then kill."""
        assert self.process is not None
        self.process.send_signal(number)
        try:
            return self.process.wait(self.grace_s)
        finally:
            self.kill()

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check_of(service: Mapping[str, Any]) -> list[str]:
    """The health check's command, as a container would run it."""
    kind, *words = service["healthcheck"]["test"]
    if kind == "CMD-SHELL":
        return ["sh", "-c", *words]
    assert kind == "CMD"
    return list(words)
