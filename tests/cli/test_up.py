"""`flashgrab up` with real services and fake parts: starting, telling, stopping, refusing."""

import json
import re
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.cli.stack_process import Running, alive, data_folder, up

pytestmark = [pytest.mark.xdist_group("up")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the fake parts of the shared stack write what they were told."""
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def shared(report: Path) -> Iterator[Running]:
    """One running stack for the tests that only look at it."""
    with data_folder() as data:
        env = {"FAKE_REPORT": str(report), "FLASHGRAB_QUEUE_MAX": "77"}
        with up(data, "--processes", "2", "--relays", "2", env=env) as running:
            yield running.ready()


def test_each_step_prints_a_tick(shared: Running) -> None:
    """Each step prints a tick with version, address and time; `ready` is the last line."""
    said = shared.said.splitlines()
    steps = [re.fullmatch(r"✓ ([\w-]+) *(\S*) +127\.0\.0\.1:\d+ +\d+ ms", line) for line in said]
    names = {step[1]: step[2] for step in steps if step}
    parts = {"centre", "gateway", "relay", "relay-2", "worker"}
    assert set(names) == parts | {"valkey", "limiter", "kafka", "postgres"}
    assert re.fullmatch(r"\d+\.\d+(\.\d+)?", names["valkey"])
    assert re.fullmatch(r"\d+\.\d+", names["postgres"])
    assert re.fullmatch(r"tansu-\d+\.\d+\.\d+", names["kafka"])
    address = r"http://127\.0\.0\.1:\d+"
    assert re.fullmatch(rf"ready gateway={address} centre={address}", said[-1])


def test_run_file_lists_every_process(shared: Running) -> None:
    """run.json has each service and part with id and address, and both gateway processes."""
    shared.until(lambda: len(shared.shown()["gateway"]) == 2)
    shown = shared.shown()
    forms = {name: [set(row) for row in rows] for name, rows in shown.items()}
    assert forms == {
        "gateway": [{"pid", "parent", "url", "metrics"}] * 2,
        "relay": [{"pid", "metrics"}] * 2,
        "worker": [{"pid", "metrics"}],
        "centre": [{"pid", "url", "metrics"}],
        "valkey": [{"pid", "url", "version"}],
        "limiter": [{"pid", "url", "version"}],
        "kafka": [{"pid", "url", "bootstrap", "version"}],
        "postgres": [{"pid", "url", "version"}],
        "up": [{"pid"}],
    }
    assert alive(shared.pids()) == shared.pids()
    first, second = shown["gateway"]
    assert first["pid"] != second["pid"]
    assert {**first, "pid": 0} == {**second, "pid": 0}
    assert psutil.Process(first["pid"]).ppid() == first["parent"]


def test_no_secret_is_shown_and_their_file_is_private(shared: Running) -> None:
    """run.json, logs and command lines hold no password, token or key; secrets.env is 0600."""
    data = shared.data
    secrets = data / "secrets.env"
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert stat.S_IMODE((data / "valkey" / "valkey.conf").stat().st_mode) == 0o600
    values = [
        line.partition("=")[2]
        for line in secrets.read_text().splitlines()
        if re.match("FLASHGRAB_.*(PASSWORD|KEYS?|TOKEN)=", line)
    ]
    assert len(values) == 5
    public = shared.said + (data / "run.json").read_text()
    public += "".join(log.read_text() for log in (data / "logs").iterdir())
    public += " ".join(" ".join(psutil.Process(pid).cmdline()) for pid in shared.pids())
    assert [value for value in values if value in public] == []


def test_each_part_is_told_only_what_it_needs(shared: Running, report: Path) -> None:
    """Gateway and relay get no PostgreSQL address; tokens and keys go only where they are used."""
    told = {file.stem: json.loads(file.read_text()) for file in report.iterdir()}
    everyone = {"HOST", "METRICS_PORT", "GATEWAY_URL", "CENTRE_URL", "REDIS_URL", "QUEUE_MAX"}
    extra = {
        "gateway": {"PORT", "PASS_KEYS", "LIMITER_URL", "SEGMENT_KEY"},
        "relay": {"KAFKA_BOOTSTRAP", "RELAY_NAME"},
        "worker": {*("KAFKA_BOOTSTRAP", "KAFKA_SESSION_TIMEOUT_MS", "POSTGRES_URL", "WORKER_NAME")},
        "centre": {
            *(
                "KAFKA_BOOTSTRAP",
                "POSTGRES_URL",
                "CENTRE_PORT",
                "ADMIN_TOKEN",
                "SEGMENT_KEY",
                "DATA",
            )
        },
    }
    for name, more in extra.items():
        assert set(told[name]) == {f"FLASHGRAB_{key}" for key in everyone | more}
        assert told[name]["FLASHGRAB_QUEUE_MAX"] == "77"


def test_a_second_up_on_the_same_folder_is_refused(shared: Running) -> None:
    """While one `up` uses a folder another one refuses it, and the first runs on."""
    with up(shared.data) as second:
        assert second.ended() == 2
        assert f"process {shared.process.pid}" in second.complained
    assert shared.process.poll() is None


def test_stops_in_order_and_state_survives(data: Path) -> None:
    """SIGINT stops all in order, exit 0; after a second `up` ports and secrets are the same."""
    with up(data) as running:
        pids = running.ready().pids()
        first, secrets = running.shown(), (data / "secrets.env").read_text()
        assert running.stop(signal.SIGINT) == 0
        stopped = re.findall(r"✓ (\w+) +stopped", running.said)
        services = ["kafka", "postgres", "valkey", "limiter"]
        assert stopped == ["gateway", "relay", "worker", "centre", *services]
        assert alive(pids) == []
        assert not (data / "run.json").exists()
    with up(data) as running:
        second = running.ready().shown()
        assert (data / "secrets.env").read_text() == secrets
        for name in ("valkey", "limiter", "postgres", "kafka"):
            assert second[name][0]["url"] == first[name][0]["url"]
            assert second[name][0]["pid"] != first[name][0]["pid"]
        assert running.stop(signal.SIGTERM) == 0


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


def test_a_part_that_cannot_start_is_named(data: Path, elsewhere: dict[str, str]) -> None:
    """A part that ends before it is ready ends `up`: its name, its last words, its log, exit 2."""
    with up(data, env={**elsewhere, "FAKE_FAILS": "centre"}) as running:
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


def test_tls_is_refused_before_anything_starts(data: Path) -> None:
    """`up` looks at its gateway over plain HTTP: a certificate ends it at once, exit 2."""
    with up(data, env={"FLASHGRAB_TLS_CERT": "/etc/pair.pem"}) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        assert "FLASHGRAB_TLS_CERT" in running.complained
    assert not data.exists()


def test_services_of_ones_own_are_used(data: Path, elsewhere: dict[str, str]) -> None:
    """Where the environment gives an address, that service is not started, and parts are told."""
    with up(data, env=elsewhere) as running:
        shown = running.ready().shown()
        address = shown["postgres"][0]["url"].removeprefix("postgresql://").partition("/")[0]
        assert shown["postgres"] == [{"url": f"postgresql://{address}/d", "pid": None}]
        assert not (data / "postgres").exists()
        assert running.stop() == 0


def test_a_campaign_file_with_a_mistake_is_refused_before_anything_starts(data: Path) -> None:
    """A wrong --campaign file ends `up` at once: one line that names the file, exit 2."""
    file = data.parent / "sale.toml"
    file.write_text('id = "sale"\nquantum = 1\n')
    with up(data, "--campaign", str(file)) as running:
        assert running.ended() == 2
        assert len(running.complained.splitlines()) == 1
        assert "sale.toml" in running.complained
    assert not data.exists()
