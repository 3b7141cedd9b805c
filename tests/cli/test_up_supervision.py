"""`flashgrab up` when something dies: a part, a service, a gateway's children, `up` itself."""

import asyncio
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from flashgrab.cli.stack import leftovers
from flashgrab.cli.stack.process import Child, Command, created_at, on_exit, plain_env
from tests.cli.stack_process import Running, alive, until, up

pytestmark = [pytest.mark.xdist_group("up")]


def returned(running: Running, name: str, pid: int) -> bool:
    """Whether run.json lists another process for this name."""
    return [entry["pid"] for entry in running.shown()[name]] not in ([], [pid])


def said_twice(running: Running, words: str) -> bool:
    """Whether it said so at the start and once more."""
    return running.said.count(words) == 2


def test_what_dies_comes_back(data: Path) -> None:
    """After kill -9 a part or service runs again at the same address, and a line says so."""
    with up(data) as running:
        running.ready()
        for name in ("gateway", "worker", "valkey", "postgres", "kafka"):
            before = running.shown()[name][0]
            os.kill(before["pid"], signal.SIGKILL)
            running.until(partial(returned, running, name, before["pid"]))
            running.until(partial(said_twice, running, f"✓ {name}"))
            after = running.shown()[name][0]
            assert {**after, "pid": 0} == {**before, "pid": 0}
            line = f"! {name} (process {before['pid']}) ended with signal 9 (SIGKILL)"
            assert line in running.said
        assert running.stop() == 0


def test_no_restart_ends_everything(data: Path, elsewhere: dict[str, str]) -> None:
    """With --no-restart the death of a part stops all, exit 2, naming it."""
    with up(data, "--no-restart", env=elsewhere) as running:
        pids = running.ready().pids()
        os.kill(running.shown()["relay"][0]["pid"], signal.SIGKILL)
        assert running.ended() == 2
        assert "relay" in running.complained
        assert len(running.complained.splitlines()) == 1
        assert alive(pids) == []


@pytest.mark.skipif(not Path("/proc").exists(), reason="parent-death signals are Linux's")
def test_kill_9_of_up_leaves_nothing_running(data: Path) -> None:
    """Linux ends every child when `up` is killed; the next `up` starts on the same folder."""
    with up(data) as running:
        pids = running.ready().pids()
        running.process.kill()
        running.process.wait()
        until(lambda: alive(pids) == [], lambda: f"left: {alive(pids)}")
    with up(data) as running:
        running.ready()
        assert running.stop() == 0


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux tells of a death")
def test_a_death_is_told_at_once(tmp_path: Path) -> None:
    """Nobody needs to look: the loop hears of a child that ended."""

    async def hear() -> None:
        died = asyncio.Event()
        child = Child(Command(["sleep", "60"], plain_env()), tmp_path / "child.log")
        try:
            on_exit(child.pid, died.set)
            os.kill(child.pid, signal.SIGKILL)
            async with asyncio.timeout(20):
                await died.wait()
            assert child.poll() == -signal.SIGKILL
        finally:
            child.kill()

    asyncio.run(hear())


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    """The next `up` ends a noted process only where id and start both match."""
    sleeper = Command(["sleep", "60"], plain_env())
    left, stranger = (Child(sleeper, tmp_path / f"{n}.log") for n in ("left", "stranger"))
    try:
        noted = tmp_path / "pids.json"
        rows = [("relay", left.pid, left.created_at), ("worker", stranger.pid, 12345.0)]
        leftovers.note(noted, rows)
        assert leftovers.clear(noted) == [f"relay (process {left.pid})"]
        assert left.poll() is not None
        assert created_at(stranger.pid) is not None
        assert not noted.exists()
    finally:
        left.kill()
        stranger.kill()
