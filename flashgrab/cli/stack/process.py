"""One child process: started in a session of its own, and gone when its parent is."""

import asyncio
import contextlib
import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PR_SET_PDEATHSIG = 1
_POLL_S = 0.01
LOG_BYTES_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class User:
    """An unprivileged account, for programs that refuse to run as root."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to start. `env` is the whole environment of the child."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(repr=False)
    user: User | None = None
    death_signal: signal.Signals = signal.SIGTERM  # sent by Linux when the parent dies


def unprivileged() -> User | None:
    """The account for programs that refuse root; None where this process is not root."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return User(nobody.pw_name, nobody.pw_uid, nobody.pw_gid)


def plain_env() -> dict[str, str]:
    """The environment for services: nothing of ours or of other programs' settings in it."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ}


class Child:
    """A started process. Start it from the main thread: Linux ties its life to that thread."""

    def __init__(self, command: Command, log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(log.suffix + ".1"))
        user = command.user
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command.argv),
                env=dict(command.env),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C reaches only `up`
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                preexec_fn=_dies_with_parent(command.death_signal),  # noqa: PLW1509 -- prctl only
            )
        self.pid: int = self._process.pid
        self.created_at = created_at(self.pid) or time.time()

    def poll(self) -> int | None:
        """The exit status (negative: the signal), or None while it runs."""
        return self._process.poll()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the process; nothing if it is gone."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to the whole session and wait; also takes what the process left behind."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()

    def stop(self, number: signal.Signals, within_s: float, hurry: Callable[[], bool]) -> bool:
        """Signal, wait, kill at the end or when `hurry()` turns true. True: it went by itself."""
        self.send(number)
        until = time.monotonic() + within_s
        while self.poll() is None:
            if time.monotonic() > until or hurry():
                self.kill()
                return False
            time.sleep(_POLL_S)
        return True


def on_exit(pid: int, told: Callable[[], object]) -> None:
    """Call `told` in the running loop when a child ends, where the system says so (Linux)."""
    if not hasattr(os, "pidfd_open"):
        return
    try:
        handle = os.pidfd_open(pid)
    except OSError:  # an old kernel, or a sandbox without it
        return
    loop = asyncio.get_running_loop()

    def ended() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        told()

    loop.add_reader(handle, ended)


def created_at(pid: int) -> float | None:
    """When a process started, seconds since 1970; None when there is none (or a zombie)."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def describe_exit(status: int) -> str:
    """`exit status 3` or `signal 9 (SIGKILL)`."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {-status} ({signal.Signals(-status).name})"
    return f"signal {-status}"


def _dies_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """What a Linux child runs before exec, after it has changed its user (which would clear it)."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)
        if os.getppid() != parent:  # it died before the call above
            os._exit(1)

    return before_exec
