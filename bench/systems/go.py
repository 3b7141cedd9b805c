"""The programs of bench/go, built when they are asked for."""

import shutil
import subprocess
from functools import cache
from pathlib import Path

from bench.processes import ROOT, BadRun

SOURCES = ROOT / "bench" / "go"
BUILT = ROOT / ".cache" / "bench"
BUILD_S = 600.0


def missing() -> str | None:
    """Why nothing of it can be built here, or None."""
    return None if shutil.which("go") else "Go is not on PATH"


def unbuildable(name: str) -> str | None:
    """Why a program of bench/go is not to be had here, or None; its modules need the internet."""
    if why := missing():
        return why
    try:
        program(name)
    except BadRun as bad:
        return str(bad)
    return None


@cache
def program(name: str) -> Path:
    """The program of a folder of bench/go, built once a run; Go's own cache makes it quick.

    Raises BadRun where it does not build.
    """
    file = BUILT / name
    BUILT.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-o", str(file), f"./{name}"]
    done = subprocess.run(
        command, cwd=SOURCES, capture_output=True, text=True, timeout=BUILD_S, check=False
    )
    if done.returncode:
        raise BadRun(f"{' '.join(command)}: {done.stderr.strip()[-800:]}")
    return file


@cache
def version() -> str:
    """Of the compiler, as it says it."""
    done = subprocess.run(["go", "version"], capture_output=True, text=True, check=False)
    return done.stdout.strip().removeprefix("go version ")
