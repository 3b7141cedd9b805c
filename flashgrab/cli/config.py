"""`flashgrab config …`: what is set, and where it came from."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from flashgrab.cli import target
from flashgrab.cli.failure import Failure
from flashgrab.cli.stack import environments
from flashgrab.cli.stack.secretsfile import read_env_file
from flashgrab.cli.target import DEFAULT_DATA, DataOption
from flashgrab.settings import PREFIX

app = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

IN_RUN_FILE = frozenset(
    PREFIX + name
    for name in (
        *("HOST", "PORT", "CENTRE_PORT", "METRICS_PORT", "GATEWAY_URL", "CENTRE_URL"),
        *("REDIS_URL", "LIMITER_URL", "POSTGRES_URL", "KAFKA_BOOTSTRAP"),
    )
)
"""What `up` chooses and run.json tells."""
FLAGS = {
    f"{PREFIX}PORT": "--port",
    f"{PREFIX}CENTRE_PORT": "--centre-port",
    f"{PREFIX}DEMO": "--demo",
}
"""Settings that `up` takes from its command line."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One value of a setting and the parts that have it; several rows where parts differ."""

    name: str
    value: str
    origin: str
    parts: tuple[str, ...]


@app.callback()
def group() -> None:
    """Settings: docs/settings.md says what each means."""


@app.command(epilog="Examples: flashgrab config show · flashgrab config show --origin --json")
def show(
    origin: Annotated[
        bool, typer.Option("--origin", help="Where each value came from, and which parts have it.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
    data: DataOption = None,
) -> None:
    """Show every setting as the parts have it, secrets masked.

    Of a stack that `up` runs on this machine: what its processes were started with. Else what parts
    would get here: from the environment, the folder's secrets.env, else the default. Origins:
    default, environment, secrets.env, run.json (chosen by `up`), up (fixed by it), or the flag.
    """
    found = read(data, os.environ)
    if as_json:
        from flashgrab.cli.tables import print_json

        print_json({"settings": [asdict(setting) for setting in found]})
        return
    _print(found, origin)


def read(data: Path | None, environment: Mapping[str, str]) -> list[Setting]:
    """Every setting of every part, and FLASHGRAB_DATA."""
    folder = data or Path(environment.get(f"{PREFIX}DATA") or DEFAULT_DATA)
    try:
        found = target.find(data, environment=environment)
        shown = target.read_run_file(found.folder) if found.folder else {}
    except Failure:
        shown = {}
    reader = _Reader(folder, shown, environment)
    rows: dict[tuple[str, str, str], list[str]] = {}
    for part, kind in environments.PARTS.items():
        for field, info in kind.model_fields.items():
            name = PREFIX + field.upper()
            value, origin = reader.value(part, name)
            if value is None:
                value = "" if info.is_required() else _plain(info.get_default())
                origin = "not set" if info.is_required() else "default"
            rows.setdefault((name, environments.masked(name, value), origin), []).append(part)
    given = "--data" if data else "environment" if f"{PREFIX}DATA" in environment else "default"
    return [
        Setting(f"{PREFIX}DATA", str(folder), given, ("commands",)),
        *(Setting(*row, tuple(parts)) for row, parts in sorted(rows.items())),
    ]


class _Reader:
    """Looks a setting up in all the places that it can come from."""

    def __init__(
        self, folder: Path, shown: Mapping[str, Any], environment: Mapping[str, str]
    ) -> None:
        up = (shown.get("up") or [{}])[0].get("pid")
        self._started = environments.of_process(up)
        self._flags = _words(up)
        self._secrets = read_env_file(folder / "secrets.env")
        self._runs = bool(shown)
        self._environment = environment
        self._parts = environments.of_parts(folder, shown, environment)

    def value(self, part: str, name: str) -> tuple[str | None, str]:
        """The value and its origin; None where it is nowhere."""
        value = self._parts[part].get(name)
        if value is None:
            return None, ""
        given = self._started if self._runs else self._environment
        if given.get(name) == value:
            return value, "environment"
        if self._runs and name in FLAGS and FLAGS[name] in self._flags:
            return value, FLAGS[name]
        if self._runs and name in IN_RUN_FILE:
            return value, "run.json"
        if self._secrets.get(name) == value:
            return value, "secrets.env"
        return value, "up" if self._runs else "environment"


def _words(pid: int | None) -> set[str]:
    """The flags that a process was started with, without their values."""
    import psutil

    try:
        words = psutil.Process(pid).cmdline() if pid else []
    except psutil.Error:
        return set()
    return {word.partition("=")[0] for word in words if word.startswith("--")}


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _print(found: Sequence[Setting], origin: bool) -> None:
    width = max(len(setting.name) for setting in found)
    values = max(len(setting.value) for setting in found)
    origins = max(len(setting.origin) for setting in found)
    for setting in found:
        line = f"{setting.name:<{width}}  {setting.value:<{values}}"
        if origin:
            line += f"  {setting.origin:<{origins}}  {', '.join(setting.parts)}"
        print(line.rstrip())
