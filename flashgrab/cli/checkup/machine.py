"""The machine and the data folder: what can be said before anything runs."""

import os
import resource
import shutil
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import psutil
from pydantic import ValidationError

from flashgrab.cli.checkup.hints import Finding, judged
from flashgrab.cli.stack.environments import PARTS
from flashgrab.cli.stack.folder import FolderVersion
from flashgrab.cli.stack.ports import is_free, owner
from flashgrab.cli.stack.service import ServiceFailed
from flashgrab.settings import PREFIX, PartSettings, problems

FILES_MIN = 16_384
"""Connections that a gateway should be able to hold, and some for itself."""
DISK_FREE_MIN = 2 * 1024**3
"""Bytes: Redis' log and the ledger grow by about 0.5 KB a grant."""
BACKLOG_MIN = 4096
"""What gateway and centre ask for; the system cuts it to its own bound."""
MEMORY_FREE_MIN = 512 * 1024**2
SOMAXCONN = Path("/proc/sys/net/core/somaxconn")
GOVERNORS = Path("/sys/devices/system/cpu")
NO_PART_SETS = {"DATA", "GATEWAY_URL", "CENTRE_URL"}
"""Variables that commands read, and one that the contract keeps for later."""


def files() -> Finding:
    """The gateway raises its own limit as far as the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = hard == resource.RLIM_INFINITY or hard >= FILES_MIN
    shown = "no limit" if hard == resource.RLIM_INFINITY else f"{hard:,}"
    return judged("files", allowed, f"{shown} (at least {FILES_MIN:,} wanted)")


def backlog() -> Finding:
    """How many connections may wait to be accepted."""
    try:
        bound = int(SOMAXCONN.read_text())
    except (OSError, ValueError):
        return Finding("backlog", "ok", "this system does not say")
    said = f"{bound:,} (at least {BACKLOG_MIN:,} wanted)"
    return judged("backlog", bound >= BACKLOG_MIN, said, "warn")


def server() -> Finding:
    """The loop and the parser that everything was measured with."""
    missing = [name for name in ("uvloop", "httptools") if find_spec(name) is None]
    said = f"{' and '.join(missing)} not installed" if missing else "uvloop and httptools"
    return judged("server", not missing, said)


def governor() -> Finding:
    """How the CPU's speed is chosen, where the system says so."""
    files = sorted(GOVERNORS.glob("cpu[0-9]*/cpufreq/scaling_governor"))
    try:
        found = {file.read_text().strip() for file in files}
    except OSError:
        found = set()
    if not found:
        return Finding("governor", "ok", "this machine does not say")
    return judged("governor", found == {"performance"}, ", ".join(sorted(found)), "warn")


def memory() -> Finding:
    """What new work can have without swapping."""
    free = psutil.virtual_memory().available
    return judged("memory", free >= MEMORY_FREE_MIN, f"{free // 1024**2:,} MiB available", "warn")


def audience(gateway: Mapping[str, str]) -> Finding:
    """Whether tokens of the shop's login are taken that were made for somebody else."""
    wanted = gateway.get("FLASHGRAB_IDENTITY_AUDIENCE", "")
    if wanted:
        return Finding("audience", "ok", wanted)
    names = ("IDENTITY_KEY", "IDENTITY_JWKS")
    if not any(gateway.get(PREFIX + name) for name in names):
        return Finding("audience", "ok", "no identity is configured: no token is taken")
    if gateway.get("FLASHGRAB_DEMO") == "1":
        return Finding("audience", "ok", "unset, with identities of the demo")
    return Finding("audience", "warn", "FLASHGRAB_IDENTITY_AUDIENCE is not set")


def settings() -> list[Finding]:
    """Values that a part would refuse, and variables that none of them knows."""
    given = {name for name in os.environ if name.startswith(PREFIX)}
    known = {PREFIX + field.upper() for part in PARTS.values() for field in part.model_fields}
    known |= {PREFIX + name for name in NO_PART_SETS}
    found = [Finding("settings", "warn", f"{name}: no such setting") for name in given - known]
    wrong = {line for part in PARTS.values() for line in _wrong(part)}
    found += [Finding("settings", "bad", line) for line in sorted(wrong)]
    said = f"{len(given)} set here, all of them known and valid" if given else "none is set here"
    return found or [Finding("settings", "ok", said)]


def _wrong(part: type[PartSettings]) -> list[str]:
    """Without those that are missing: not every machine runs every part."""
    try:
        part()
    except ValidationError as error:
        missing = {e["loc"] for e in error.errors() if e["type"] == "missing"}
        names = {PREFIX + "_".join(map(str, loc)).upper() for loc in missing}
        return [line for line in problems(error) if line.partition(":")[0] not in names]
    return []


def ports(wanted: Mapping[str, int]) -> list[Finding]:
    """Those that `up` would take, and who has them."""
    found = []
    for name, port in wanted.items():
        free = is_free(port)
        taken = "" if free else f" is in use{owner(port)}"
        found.append(judged("ports", free, f"{port} for the {name}{taken}"))
    return found


def folder(path: Path) -> list[Finding]:
    """Version, secrets and room of a data folder that is there."""
    try:
        version = FolderVersion.read(path / "version")
    except ServiceFailed as failure:
        return [Finding("folder-foreign", "bad", str(failure))]
    if version is None:
        return [Finding("folder-foreign", "bad", f"{path} is not a data folder of flashgrab")]
    ours = FolderVersion.ours()
    if version.is_newer:
        return [Finding("folder-foreign", "bad", f"{path} is newer ({version}; this is {ours})")]
    due = f"{path}: a migration is due ({version}; this is {ours})"
    said = due if version.is_older else f"{path}: {version}"
    return [
        judged("folder", not version.is_older, said, "warn"),
        *_secrets(path / "secrets.env"),
        _room(path),
    ]


def _secrets(path: Path) -> list[Finding]:
    if not path.exists():
        return []
    mode = stat.S_IMODE(path.stat().st_mode)
    return [judged("secrets", not mode & 0o077, f"{path} has mode {mode:04o}")]


def _room(path: Path) -> Finding:
    free = shutil.disk_usage(path).free
    return judged("disk", free >= DISK_FREE_MIN, f"{free // 1024**2:,} MiB free in {path}", "warn")
