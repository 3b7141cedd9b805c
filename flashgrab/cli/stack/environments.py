"""With which environment each part runs: its process' own where it runs here, else what it would
get. And which values of settings are secrets."""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psutil

from flashgrab.cli.stack.secretsfile import read_env_file
from flashgrab.settings import (
    PREFIX,
    CentreSettings,
    GatewaySettings,
    PartSettings,
    RelaySettings,
    WorkerSettings,
)

PARTS: dict[str, type[PartSettings]] = {
    "gateway": GatewaySettings,
    "relay": RelaySettings,
    "worker": WorkerSettings,
    "centre": CentreSettings,
}
MASK = "***"
SECRET_LENGTH_MIN = 6
"""Shorter ones would be found in any text."""
_TOKENS = re.compile(
    r"(?<=Bearer )[A-Za-z0-9._~+/=-]+|\bfg[a-z]_[A-Za-z0-9_-]{8,}|\beyJ[\w-]+\.[\w-]+\.[\w-]+"
    r"|\bv1\.[A-Za-z0-9]+(?:/[\w.~+@-]*){4}/[0-9a-f]+"
)
"""What lets somebody in without being a setting: tokens, sign-in links, identity tokens, passes."""


def of_parts(
    folder: Path | None, shown: Mapping[str, Any], environment: Mapping[str, str]
) -> dict[str, Mapping[str, str]]:
    """Of each part; `shown` is run.json, empty where nothing runs in the folder."""
    kept = read_env_file(folder / "secrets.env") if folder else {}
    would_get = kept | dict(environment)
    return {part: of_process(_pid(shown, part)) or would_get for part in PARTS}


def of_process(pid: int | None) -> dict[str, str]:
    """What a process was started with; empty where it is gone, or somebody else's."""
    try:
        return psutil.Process(pid).environ() if pid is not None else {}
    except (psutil.Error, OSError):
        return {}


def _pid(shown: Mapping[str, Any], part: str) -> int | None:
    """A gateway of several processes is its parent's."""
    first: Mapping[str, Any] = next(iter(shown.get(part, ())), {})
    return first.get("parent") or first.get("pid")


def is_secret(name: str) -> bool:
    """Whether a setting's value is one, or has one in it."""
    field = name.removeprefix(PREFIX).lower()
    known = [part.model_fields[field] for part in PARTS.values() if field in part.model_fields]
    if not known:  # secrets.env has passwords of its own
        return bool(re.search(r"PASSWORD|SECRET|TOKEN|KEY", name))
    return not all(one.repr for one in known)


def masked(name: str, value: str) -> str:
    """As it may be shown: an address without its password, any other secret not at all."""
    if not value or not is_secret(name):
        return value
    if "://" not in value:
        return MASK
    password = urlsplit(value).password
    return value.replace(f":{password}@", f":{MASK}@") if password else value


def secrets_of(environments: Iterable[Mapping[str, str]]) -> set[str]:
    """Every secret text in these settings: whole values, passwords in addresses, single keys; also
    as a line of a log in JSON has them."""
    found: set[str] = set()
    for environment in environments:
        for name, value in environment.items():
            if name.startswith(PREFIX) and is_secret(name) and value:
                found |= _parts(value)
    found |= {json.dumps(text)[1:-1] for text in found}
    return {text for text in found if len(text) >= SECRET_LENGTH_MIN}


def _parts(value: str) -> set[str]:
    if "://" in value:
        password = urlsplit(value).password or ""
        return {password, unquote(password)}  # a driver's error has it as it is typed
    keys = {entry.partition(":")[2] for entry in value.split(",") if ":" in entry}
    return {value, *keys}


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Without any of them, the longest first: one may be in another."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return _TOKENS.sub(MASK, text)
