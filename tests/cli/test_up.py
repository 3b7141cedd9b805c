"""`flashgrab up` with real services and fake parts: starting, stopping, refusing."""

import json
import re
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from tests.cli.stack_process import alive, up

pytestmark = [pytest.mark.xdist_group("up")]


def test_starts_says_and_stops(data: Path) -> None:
    """Each step prints a tick with version, port and time, then `ready`; SIGINT stops in order."""
    with up(data) as running:
        said = running.ready().said.splitlines()
        steps = [re.fullmatch(r"✓ (\w+) *(\S*) +127\.0\.0\.1:\d+ +\d+ ms", line) for line in said]
        names = {step[1]: step[2] for step in steps if step}
        parts = {"centre", "gateway", "relay", "worker"}
        assert set(names) == parts | {"valkey", "kafka", "postgres"}
        assert re.fullmatch(r"\d+\.\d+(\.\d+)?", names["valkey"])
        assert re.fullmatch(r"\d+\.\d+", names["postgres"])
        assert re.fullmatch(r"tansu-\d+\.\d+\.\d+", names["kafka"])
        assert re.fullmatch(
            r"ready gateway=http://127\.0\.0\.1:\d+ centre=http://127\.0\.0\.1:\d+", said[-1]
        )
        pids = running.pids()
        assert len(pids) == len(names)
        assert running.stop(signal.SIGINT) == 0
        stopped = re.findall(r"✓ (\w+) +stopped", running.said)
        assert stopped == ["gateway", "relay", "worker", "centre", "kafka", "postgres", "valkey"]
        assert alive(pids) == []
        assert not (data / "run.json").exists()


def test_state_survives_and_a_second_start_is_the_same(data: Path) -> None:
    """Ports, secrets and the folder of PostgreSQL are the same after SIGTERM and a second `up`."""
    with up(data) as running:
        running.ready()
        first, secrets = running.shown(), (data / "secrets.env").read_text()
        assert running.stop(signal.SIGTERM) == 0
    with up(data) as running:
        running.ready()
        second = running.shown()
        assert (data / "secrets.env").read_text() == secrets
        for name in ("valkey", "postgres", "kafka"):
            assert second[name][0]["url"] == first[name][0]["url"]
            assert second[name][0]["pid"] != first[name][0]["pid"]


def test_run_file_has_no_secrets_and_secrets_are_private(data: Path) -> None:
    """run.json and logs hold no password, token or key; secrets.env is mode 0600."""
    with up(data) as running:
        running.ready()
        secrets = data / "secrets.env"
        assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
        assert stat.S_IMODE((data / "valkey" / "valkey.conf").stat().st_mode) == 0o600
        values = [
            line.partition("=")[2]
            for line in secrets.read_text().splitlines()
            if re.match("FLASHGRAB_.*(PASSWORD|KEYS|TOKEN)=", line)
        ]
        assert len(values) == 4
        public = running.said + (data / "run.json").read_text()
        public += "".join(log.read_text() for log in (data / "logs").iterdir())
        for pid in running.pids():
            public += " ".join(psutil.Process(pid).cmdline())
        assert [value for value in values if value in public] == []


def test_each_part_is_told_only_what_it_needs(data: Path) -> None:
    """Gateway and relay get no PostgreSQL address; tokens and keys go only where they are used."""
    report = data.parent / "report"
    report.mkdir()
    env = {"FAKE_REPORT": str(report), "FLASHGRAB_QUEUE_MAX": "77"}
    with up(data, env=env) as running:
        running.ready()
    told = {file.stem: json.loads(file.read_text()) for file in report.iterdir()}
    everyone = {"HOST", "METRICS_PORT", "GATEWAY_URL", "CENTRE_URL", "REDIS_URL", "QUEUE_MAX"}
    extra = {
        "gateway": {"PORT", "PASS_KEYS"},
        "relay": {"KAFKA_BOOTSTRAP"},
        "worker": {"KAFKA_BOOTSTRAP", "POSTGRES_URL"},
        "centre": {"POSTGRES_URL", "CENTRE_PORT", "ADMIN_TOKEN"},
    }
    for name, more in extra.items():
        assert set(told[name]) == {f"FLASHGRAB_{key}" for key in everyone | more}
        assert told[name]["FLASHGRAB_QUEUE_MAX"] == "77"


def test_a_port_in_use_is_named(data: Path) -> None:
    """A taken port ends `up` with one line that says which and what to do, and exit 2."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with up(data, "--port", str(port)) as running:
            assert running.ended() == 2
            assert len(running.complained.splitlines()) == 1
            assert f"port {port}" in running.complained
            assert "--port N" in running.complained


def test_a_foreign_folder_is_left_alone(data: Path) -> None:
    """A folder with other things in it is refused with one line, exit 2, and not changed."""
    data.mkdir()
    (data / "letter.txt").write_text("mine")
    with up(data) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        assert "--data" in running.complained
    assert [entry.name for entry in data.iterdir()] == ["letter.txt"]


def test_a_folder_of_another_version_is_refused(data: Path) -> None:
    """A folder marked by another version is refused with one line that names both, exit 2."""
    data.mkdir()
    (data / "version").write_text("flashgrab data 99\n")
    with up(data) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        assert "flashgrab data 99" in running.complained


def test_a_second_up_on_the_same_folder_is_refused(data: Path) -> None:
    """While one `up` uses a folder another one refuses it, and the first runs on."""
    with up(data) as first:
        first.ready()
        with up(data) as second:
            assert second.ended() == 2
            assert f"process {first.process.pid}" in second.complained
        assert first.process.poll() is None


def test_a_part_that_cannot_start_is_named(data: Path) -> None:
    """A part that ends before it is ready ends `up`: its name, its last words, its log, exit 2."""
    with up(data, env={"FAKE_FAILS": "centre"}) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        for word in ("centre", "exit status 3", "this part cannot start", "centre.log"):
            assert word in running.complained
        assert not (data / "run.json").exists()


def test_ctrl_c_while_starting_stops_what_was_started(data: Path) -> None:
    """A signal before `ready` also ends with exit 0 and nothing left."""
    with up(data) as running:
        running.until(lambda: "✓ valkey" in running.said)
        pids = running.pids()
        assert running.stop() == 0
        assert alive(pids) == []
        assert "ready" not in running.said
