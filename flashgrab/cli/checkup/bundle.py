"""A zip for whoever is to help: what the doctor found, settings, versions, logs. No secrets.

Secrets are masked by their values, wherever they stand: a log that should never have had one does
not carry it out of the house.
"""

import json
import os
import platform
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from flashgrab.cli.checkup.hints import Finding
from flashgrab.cli.failure import fail
from flashgrab.cli.stack import environments

LOG_BYTES = 200_000
"""The end of each log."""
LOGS_MAX = 50
README = """A support bundle of flashgrab: versions, settings, what `flashgrab doctor` found,
run.json, the ends of the logs, and what each part measured. Passwords, keys and tokens are
replaced by ***. It still names campaigns, addresses and, in some lines of logs, user ids: look
before you share it.
"""


def write(
    path: Path,
    found: Sequence[Finding],
    *,
    settings: Sequence[Mapping[str, Any]],
    folder: Path | None,
    secrets: set[str],
    metrics: Mapping[str, str],
) -> list[str]:
    """The names inside. Mode 0600. Exit 2 where the file cannot be written."""
    texts = {
        "README.txt": README,
        "versions.json": _json(_versions()),
        "doctor.json": _json([finding.as_json() for finding in found]),
        "settings.json": _json(settings),
        **{f"metrics/{name}.txt": text for name, text in metrics.items()},
        **(_of_folder(folder) if folder is not None else {}),
    }
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.fchmod(descriptor, 0o600)  # of a file that was there too
        with (
            os.fdopen(descriptor, "wb") as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as bundle,
        ):
            for name, text in texts.items():
                bundle.writestr(f"flashgrab/{name}", environments.redacted(text, secrets))
    except OSError as error:
        fail(f"{path}: cannot be written: {error.strerror}")
    return sorted(texts)


def _of_folder(folder: Path) -> dict[str, str]:
    """What lies there; never secrets.env, and nothing of the stores."""
    files = [folder / name for name in ("run.json", "ports.json", "version")]
    found = {file.name: _end_of(file) for file in files if file.is_file()}
    for log in sorted((folder / "logs").glob("*.log*"))[:LOGS_MAX]:
        found[f"logs/{log.name}"] = _end_of(log)
    return found


def _end_of(file: Path) -> str:
    """Whole lines only: the half of a secret that a cut leaves is not found by its value. A file
    that cannot be read, or has just been rotated away, says so in its own place."""
    try:
        with file.open("rb") as lines:
            if (before := file.stat().st_size - LOG_BYTES) > 0:
                lines.seek(before)
                lines.readline()
            return lines.read().decode(errors="replace")
    except OSError as error:
        return f"cannot be read: {error.strerror}\n"


def _versions() -> dict[str, Any]:
    packages = {each.metadata["Name"]: each.version for each in distributions()}
    return {
        "flashgrab": packages.get("flashgrab", "?"),
        "python": sys.version,
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "packages": dict(sorted(packages.items())),
    }


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
