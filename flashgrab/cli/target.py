"""Which stack a command speaks to (contract §4).

`--data DIR`, else explicit FLASHGRAB_* addresses, else FLASHGRAB_DATA, else `.flashgrab/`. From a
data folder come `run.json` (addresses) and `secrets.env`.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn
from urllib.parse import urlsplit, urlunsplit

import psutil
import typer

from flashgrab.cli.failure import fail
from flashgrab.cli.stack.secretsfile import read_env_file

DEFAULT_DATA = Path(".flashgrab")
METRICS_PORTS = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}

# For commands: `def audit(data: DataOption = None) -> None`.
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Data folder of the `flashgrab up` to speak to.", file_okay=False),
]

# field of Target -> the variable that sets it
_ADDRESSES = {
    "gateway_url": "FLASHGRAB_GATEWAY_URL",
    "centre_url": "FLASHGRAB_CENTRE_URL",
    "redis_url": "FLASHGRAB_REDIS_URL",
    "kafka_bootstrap": "FLASHGRAB_KAFKA_BOOTSTRAP",
    "postgres_url": "FLASHGRAB_POSTGRES_URL",
}
_SECRETS = {
    "pass_keys": "FLASHGRAB_PASS_KEYS",
    "admin_token": "FLASHGRAB_ADMIN_TOKEN",
    "identity_key": "FLASHGRAB_IDENTITY_KEY",
}


@dataclass(frozen=True, slots=True)
class Target:
    """Addresses and secrets of a stack; "" where unknown. `name` is for people, without secrets."""

    name: str
    gateway_url: str = ""
    centre_url: str = ""
    redis_url: str = field(default="", repr=False)
    limiter_url: str = field(default="", repr=False)
    kafka_bootstrap: str = ""
    postgres_url: str = field(default="", repr=False)
    pass_keys: str = field(default="", repr=False)
    admin_token: str = field(default="", repr=False)
    identity_key: str = field(default="", repr=False)
    metrics: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # part -> URLs
    folder: Path | None = None  # where it was found

    def need(self, *fields: str) -> "Target":
        """Itself, once these fields are known; else exit 2 saying which is not and what to do."""
        for name in fields:
            if not getattr(self, name):
                variable = (_ADDRESSES | _SECRETS)[name]
                fail(
                    f"{self.name} has no {name.replace('_', ' ')}: start `flashgrab up`, "
                    f"name its folder with --data, or set {variable}"
                )
        return self


def find(
    data: Path | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
    running: bool = True,
) -> Target:
    """The stack to speak to; exit 2 with one line where there is none.

    `running=False` is for commands that need only the secrets of a folder (`pass mint`).
    """
    if data is not None:
        return _from_folder(data, {}, running=running)
    if any(environment.get(name) for name in _ADDRESSES.values()):
        return _from_environment(environment)
    if not running and environment.get("FLASHGRAB_PASS_KEYS"):
        return _from_environment(environment)
    folder = Path(environment.get("FLASHGRAB_DATA") or DEFAULT_DATA)
    return _from_folder(folder, environment, running=running)


def writing_to_centre(data: Path | None) -> Target:
    """The stack whose centre a command is about to write to; says which one it is."""
    found = find(data).need("centre_url", "admin_token")
    print(f"target: {found.name}, centre {without_password(found.centre_url)}", file=sys.stderr)
    return found


def has_tls(url: str) -> bool:
    """What httpx2 is told as `verify`: to load the certificates takes 60 to 240 ms of CPU, and
    over plain HTTP there are none to check."""
    return not url.startswith("http://")


def unreachable(what: str, url: str, error: object) -> NoReturn:
    """Exit 2: a service does not answer. The address is shown without its password."""
    reason = str(error) or type(error).__name__
    fail(f"{what} at {without_password(url)} does not answer ({reason}); is it up?")


def without_password(url: str) -> str:
    """The URL as it may be shown."""
    parts = urlsplit(url)
    if parts.password is None:
        return url
    user = f"{parts.username}@" if parts.username else ""
    return urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))


def _from_environment(environment: Mapping[str, str]) -> Target:
    known = {key: environment.get(name, "") for key, name in (_ADDRESSES | _SECRETS).items()}
    known["limiter_url"] = environment.get("FLASHGRAB_LIMITER_URL", "")
    metrics = {part: (f"http://127.0.0.1:{port}/metrics",) for part, port in METRICS_PORTS.items()}
    return Target("the stack of FLASHGRAB_*", metrics=metrics, folder=None, **known)


def _from_folder(folder: Path, environment: Mapping[str, str], *, running: bool) -> Target:
    secrets = read_env_file(folder / "secrets.env")
    known = {key: environment.get(name) or secrets.get(name, "") for key, name in _SECRETS.items()}
    shown = read_run_file(folder) if running else {}
    if running:
        known["gateway_url"] = _first(shown, "gateway", "url")
        known["centre_url"] = _first(shown, "centre", "url")
        known["kafka_bootstrap"] = _first(shown, "kafka", "bootstrap")
        known["redis_url"] = secrets.get("FLASHGRAB_REDIS_URL", "")
        known["limiter_url"] = secrets.get("FLASHGRAB_LIMITER_URL", "")
        known["postgres_url"] = secrets.get("FLASHGRAB_POSTGRES_URL", "")
    metrics = {
        part: tuple(dict.fromkeys(o["metrics"] for o in shown.get(part, []) if "metrics" in o))
        for part in METRICS_PORTS
    }
    return Target(f"the stack in {folder}", metrics=metrics, folder=folder, **known)


def read_run_file(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """What runs in a folder; exit 2 where nothing does."""
    try:
        shown: dict[str, list[dict[str, Any]]] = json.loads((folder / "run.json").read_text())
    except FileNotFoundError:
        fail(f"nothing runs in {folder}: start `flashgrab up`, or name its folder with --data")
    except (OSError, ValueError) as error:
        fail(f"{folder / 'run.json'} cannot be read: {error}")
    owner = shown.get("up", [{}])[0].get("pid")
    if owner is not None and not psutil.pid_exists(owner):
        fail(f"nothing runs in {folder} any more: start `flashgrab up` again")
    return shown


def _first(shown: Mapping[str, list[dict[str, Any]]], part: str, key: str) -> str:
    return next((str(o[key]) for o in shown.get(part, []) if o.get(key)), "")
