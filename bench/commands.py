"""The command line of this checkout, called as an outsider would."""

import os
import subprocess
import sys
from collections.abc import Mapping

from bench.processes import ROOT, require


def flashgrab() -> list[str]:
    """The command line of this checkout, in this Python."""
    return [sys.executable, "-m", "flashgrab.cli"]


def plain_env() -> dict[str, str]:
    """The environment without settings of ours, which may name another stack."""
    return {name: v for name, v in os.environ.items() if not name.startswith("FLASHGRAB_")}


def call(env: Mapping[str, str], *command: str) -> str:
    """What a `flashgrab` command prints; bad news (1) included. Raises BadRun."""
    done = subprocess.run(
        [*flashgrab(), *command], env=env, cwd=ROOT, capture_output=True, text=True, check=False
    )
    require(done.returncode in {0, 1}, f"flashgrab {command[0]}: {done.stderr.strip()}")
    return done.stdout
