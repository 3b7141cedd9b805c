"""The stack that is loaded: one that runs, or a fresh `flashgrab up` of our own in a new folder."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FLASHGRAB = (sys.executable, "-P", "-m", "flashgrab.cli")
READY_S_MAX = 120.0
STOP_S_MAX = 40.0
COMMAND_S_MAX = 90.0
DEFAULT_DATA = Path(".flashgrab")


class NotRunning(Exception):
    """There is no stack to load; the message is one line."""


@contextlib.contextmanager
def running(data: Path | None) -> Iterator[Path]:
    """The data folder of a running stack: `data`, else `.flashgrab` where one runs, else ours.

    Ours is stopped and removed at the end. Raises NotRunning.
    """
    if data is not None:
        if not is_up(data):
            raise NotRunning(f"nothing runs in {data}: start `flashgrab up --demo --data {data}`")
        yield data
    elif is_up(DEFAULT_DATA):
        yield DEFAULT_DATA
    else:
        with (
            tempfile.TemporaryDirectory(prefix="flashgrab-load-") as folder,
            started(Path(folder) / "data"),
        ):
            yield Path(folder) / "data"


@contextlib.contextmanager
def started(data: Path) -> Iterator[None]:
    """`flashgrab up --demo` on free ports until the block ends. Raises NotRunning."""
    data.mkdir(parents=True)
    log = data.with_name("up.log")
    command = [*FLASHGRAB, "up", "--demo", "--data", str(data), "--port", "0", "--centre-port", "0"]
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True
        )
    try:
        deadline = time.monotonic() + READY_S_MAX
        while not any(line.startswith("ready ") for line in log.read_text().splitlines()):
            if process.poll() is not None or time.monotonic() > deadline:
                last = (log.read_text().strip().splitlines() or ["it said nothing"])[-1]
                raise NotRunning(f"flashgrab up did not get ready: {last}")
            time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def is_up(data: Path) -> bool:
    """Whether the `flashgrab up` of a folder lives."""
    try:
        os.kill(run_file(data)["up"][0]["pid"], 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, IndexError):
        return False
    return True


def run_file(data: Path) -> dict[str, Any]:
    """`run.json` of a folder. Raises OSError or ValueError."""
    shown: dict[str, Any] = json.loads((data / "run.json").read_text())
    return shown


def gateway_url(data: Path) -> str:
    """Where buyers go. Raises NotRunning where the gateway is not there or mints no identities."""
    try:
        url = str(run_file(data)["gateway"][0]["url"])
    except (OSError, ValueError, KeyError, IndexError):
        raise NotRunning(f"{data}/run.json names no gateway") from None
    request = urllib.request.Request(  # noqa: S310 # http on loopback, from run.json
        f"{url}/demo/identity", data=b'{"user_id":"load-probe"}', method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            return url
    except urllib.error.HTTPError as error:
        raise NotRunning(
            f"the gateway at {url} mints no identities ({error.code}): run it with `up --demo`"
        ) from None
    except OSError as error:
        raise NotRunning(f"the gateway at {url} does not answer: {error}") from None


def flashgrab(
    data: Path, words: Sequence[str], accept: Sequence[int] = (0,)
) -> subprocess.CompletedProcess[str]:
    """Run a command of the command line. Raises NotRunning where its exit status is another."""
    done = subprocess.run(
        [*FLASHGRAB, *words, "--data", str(data)],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_S_MAX,
    )
    if done.returncode not in accept:
        last = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
        raise NotRunning(f"flashgrab {' '.join(words)}: {last}")
    return done
