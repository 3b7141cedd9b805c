"""`secrets.env`: made once, kept over restarts, mode 0600, lines of NAME=value."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from flashgrab.cli.stack.wholefile import write_whole

_LINE = re.compile(r"^([A-Z][A-Z0-9_]*)=(.*)$")
_SETTABLE = tuple(
    f"FLASHGRAB_{name}" for name in ("PASS_KEYS", "ADMIN_TOKEN", "IDENTITY_KEY", "SEGMENT_KEY")
)


@dataclass(frozen=True, slots=True, repr=False)
class Secrets:
    """All secrets of a stack. `identity_key` is "" where no identity is configured."""

    redis_password: str
    postgres_password: str
    pass_keys: str
    admin_token: str
    identity_key: str
    segment_key: str


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of the file; nothing where it is missing."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return {}
    return {found[1]: found[2] for line in lines if (found := _LINE.match(line))}


def settle(path: Path, environment: Mapping[str, str], *, demo: bool) -> Secrets:
    """The environment's secrets, else the file's, else new ones.

    A demo key of an earlier run stays in the file, but is used only with `demo`.
    """
    known = read_env_file(path)
    known |= {name: environment[name] for name in _SETTABLE if environment.get(name)}
    own_identity = environment.get("FLASHGRAB_IDENTITY_KEY", "")
    demo_identity = known.get("FLASHGRAB_IDENTITY_KEY") or secrets.token_urlsafe(32)
    return Secrets(
        redis_password=known.get("FLASHGRAB_REDIS_PASSWORD") or secrets.token_hex(24),
        postgres_password=known.get("FLASHGRAB_POSTGRES_PASSWORD") or secrets.token_hex(24),
        pass_keys=known.get("FLASHGRAB_PASS_KEYS") or f"k1:{secrets.token_hex(32)}",
        admin_token=known.get("FLASHGRAB_ADMIN_TOKEN") or secrets.token_urlsafe(32),
        identity_key=own_identity or (demo_identity if demo else ""),
        segment_key=known.get("FLASHGRAB_SEGMENT_KEY") or secrets.token_hex(32),
    )


def write(
    path: Path, values: Secrets, *, redis_url: str, limiter_url: str, postgres_url: str
) -> None:
    """Write the file for commands and for `set -a; . secrets.env`."""
    kept = read_env_file(path).get("FLASHGRAB_IDENTITY_KEY", "")
    lines = {
        "FLASHGRAB_REDIS_PASSWORD": values.redis_password,
        "FLASHGRAB_REDIS_URL": redis_url,
        "FLASHGRAB_LIMITER_URL": limiter_url,
        "FLASHGRAB_POSTGRES_PASSWORD": values.postgres_password,
        "FLASHGRAB_POSTGRES_URL": postgres_url,
        "FLASHGRAB_PASS_KEYS": values.pass_keys,
        "FLASHGRAB_ADMIN_TOKEN": values.admin_token,
        "FLASHGRAB_IDENTITY_KEY": values.identity_key or kept,
        "FLASHGRAB_SEGMENT_KEY": values.segment_key,
    }
    text = "".join(f"{name}={value}\n" for name, value in lines.items() if value)
    write_whole(path, f"# Secrets of this stack: keep this file to yourself.\n{text}", mode=0o600)
