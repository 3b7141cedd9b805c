"""A `flashgrab up` for a benchmark: everything on this machine, until the block ends."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.commands import flashgrab
from bench.processes import BadRun, running

READY_S = 60
STOP_S = 60


@contextmanager
def up(data: Path, env: Mapping[str, str], *flags: str) -> Iterator[str]:
    """The gateway's address. Raises BadRun where it does not get ready."""
    log = data.with_suffix(".log")
    command = [*flashgrab(), "up", "--port", "0", "--centre-port", "0", *flags]
    with running(command, env, log, (), STOP_S) as child:
        yield _address(child, log)


def _address(child: "subprocess.Popen[bytes]", log: Path) -> str:
    """From the line `ready gateway=… centre=…`."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and child.poll() is None:
        if found := re.search(r"^ready gateway=(\S+)", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise BadRun(f"flashgrab up did not get ready: {log.read_text()[-800:]}")
