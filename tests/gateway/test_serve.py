"""`flashgrab gateway` as its users run it: signals, ports, settings, processes, metrics."""

import contextlib
import resource
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx2
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from gateway.serve import _every, listen
from tests.gateway.process import (
    COMMAND,
    UP_S,
    Running,
    environment,
    is_alive,
    publish,
    running,
    until,
)
from tests.gateway.proxying import write_pair
from tests.lua.server import Valkey, valkey

CONTRACT = {
    "flashgrab_grabs": ("campaign", "outcome"),
    "flashgrab_grab_seconds": (),
    "flashgrab_batch_size": (),
    "flashgrab_script_seconds": ("script",),
    "flashgrab_left": ("campaign", "round"),
    "flashgrab_outbox_entries": ("campaign",),
    "flashgrab_relay_lag_seconds": (),
    "flashgrab_persist_lag_serials": ("campaign",),
    "flashgrab_invariant_ok": ("campaign", "invariant"),
    "flashgrab_inflight": (),
    "flashgrab_refused_locally": ("reason",),
}
"""Names and labels of contract §6; a counter's `_total` is the exposition's own."""


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    """A Valkey that tests may freeze."""
    with valkey(tcp=True) as running:
        yield running


# -- signals -----------------------------------------------------------------------------------


@pytest.mark.parametrize("processes", ["1", "2"])
def test_sigterm_answers_what_is_in_flight(server: Valkey, processes: str) -> None:
    """Grabs that wait for Redis when SIGTERM comes are granted all the same; then exit 0, the
    port is free, and no child is left."""
    campaign_id = f"drain-{processes}"
    publish(server, campaign_id)
    env = environment(server, REQUEST_DEADLINE_MS="10000")
    with running(env, "--processes", processes) as gateway:
        assert gateway.grab(campaign_id, "first").status_code == 201
        children = gateway.children
        answers: list[int] = []

        def send(user: str) -> None:
            answers.append(gateway.grab(campaign_id, user, 15).status_code)

        senders = [
            threading.Thread(
                target=lambda n=n: answers.append(
                    gateway.grab(campaign_id, f"u{n}", 15).status_code
                )
            )
            for n in range(8)
        ]
        server.freeze()
        try:
            for sender in senders:
                sender.start()
            until("all are in flight", lambda: _established(gateway) >= len(senders))
            gateway.process.send_signal(signal.SIGTERM)
            until("no new connections", lambda: not _accepts(gateway))
            assert gateway.process.poll() is None
        finally:
            server.thaw()
        for sender in senders:
            sender.join()
        assert gateway.process.wait(15) == 0
        assert set(answers) <= {200, 201}
        assert len(answers) == len(senders)
        assert not any(psutil.pid_exists(pid) for pid in children)
        assert "Traceback" not in gateway.said
        listen("127.0.0.1", int(env["FLASHGRAB_PORT"])).close()


def _established(gateway: Running) -> int:
    """Connections that gateway processes have accepted on the public port."""
    port = int(gateway.url.rpartition(":")[2])
    found = 0
    for process in [psutil.Process(gateway.process.pid), *map(psutil.Process, gateway.children)]:
        found += sum(
            c.status == psutil.CONN_ESTABLISHED and c.laddr.port == port
            for c in process.net_connections("tcp")
        )
    return found


def _accepts(gateway: Running) -> bool:
    with socket.socket() as probe:
        host, _, port = gateway.url.removeprefix("http://").partition(":")
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("processes, moment", [("1", "says"), ("1", "listens"), ("2", "says")])
def test_sigterm_during_the_start_ends_it(server: Valkey, processes: str, moment: str) -> None:
    """A signal while it or its children are still starting is not lost: all end."""
    gateway = Running(environment(server), "--processes", processes)
    try:
        if moment == "says":
            until("it says that it starts", lambda: "gateway_starts" in gateway.said)
        else:
            until("it listens", lambda: _accepts(gateway))
        children = gateway.children
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(UP_S) in (0, -signal.SIGTERM)
        until("no child is left", lambda: not any(map(is_alive, children)))
    finally:
        gateway.close()


# -- open files ------------------------------------------------------------------------------------


def test_more_connections_than_the_soft_limit(server: Valkey) -> None:
    """Started with a soft limit of 128 open files, it raises that and serves 200 connections."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (128, before[1]))
            gateway = stack.enter_context(running(environment(server)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        port = int(gateway.url.rpartition(":")[2])
        for _ in range(200):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            connection.sendall(b"GET /livez HTTP/1.1\r\nHost: test\r\n\r\n")
            assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")


# -- what it refuses to start with ---------------------------------------------------------------


def _run(env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        COMMAND, env=env, capture_output=True, text=True, timeout=UP_S, check=False
    )


@pytest.mark.parametrize("variable", ["FLASHGRAB_PORT", "FLASHGRAB_METRICS_PORT"])
def test_a_port_in_use_is_one_line(server: Valkey, variable: str) -> None:
    """Exit 2 and one line that says which port, and what to do."""
    env = environment(server)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", int(env[variable])))
        taken.listen()
        done = _run(env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == (
        f"cannot listen on 127.0.0.1:{env[variable]}: Address already in use;"
        f" stop what uses it, or set {variable}"
    )


def test_wrong_settings_are_listed_at_once(server: Valkey) -> None:
    """All problems, one a line, exit 2; and no secret among them."""
    secret = "s3cr3t-" + "x" * 8
    env = environment(
        server,
        REDIS_URL=f"http://:{secret}@127.0.0.1",
        PASS_KEYS=f"k1:{secret}",
        IDENTITY_KEY=secret,
        BATCH_MAX="1001",
        PORT="many",
        HOST="0.0.0.0",
        DEMO="yes",
        CORS_ORIGINS="*",
    )
    done = _run(env)
    assert done.returncode == 2
    head, *lines = done.stderr.splitlines()
    assert "docs/settings.md" in head
    named = [line.split(":")[0].strip() for line in lines]
    assert sorted(named) == sorted(
        f"FLASHGRAB_{name}"
        for name in (
            *("REDIS_URL", "PASS_KEYS", "IDENTITY_KEY", "BATCH_MAX", "PORT", "DEMO"),
            "CORS_ORIGINS",
        )
    )
    assert secret not in done.stderr + done.stdout


def test_a_certificate_that_cannot_be_used_is_one_line(server: Valkey, tmp_path: Path) -> None:
    """Exit 2, naming the variable."""
    cert = tmp_path / "cert.pem"
    cert.write_text("no certificate")
    done = _run(environment(server, TLS_CERT=str(cert), TLS_KEY=str(cert)))
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("the certificate of FLASHGRAB_TLS_CERT can't be used: ")


def test_tls_of_two_processes(server: Valkey, tmp_path: Path) -> None:
    """As its users run it: over TLS, with two processes, a new pair is served within seconds."""
    publish(server, "secure")
    cert, key = write_pair(tmp_path, "first")
    env = environment(server, TLS_CERT=str(cert), TLS_KEY=str(key))
    gateway = Running(env, "--processes", "2")
    try:
        url = f"https://127.0.0.1:{env['FLASHGRAB_PORT']}/v1/campaigns/secure"

        def served() -> bool:
            try:
                trusting = ssl.create_default_context(cafile=str(cert))
                return httpx2.get(url, verify=trusting).status_code == 200
            except httpx2.TransportError:
                return False

        until("it serves the first", served)
        write_pair(tmp_path, "second")
        until("both processes serve the second", lambda: all(served() for _ in range(8)))
        assert "Traceback" not in gateway.said
    finally:
        gateway.close()


def test_secrets_are_not_in_what_it_says(server: Valkey) -> None:
    """Settings print without secrets, and so does a gateway that cannot reach its Redis."""
    secret = "s3cr3t-" + "x" * 40
    env = environment(
        server, REDIS_URL=f"redis://:{secret}@127.0.0.1:1/0", PASS_KEYS=f"k1:{secret}",
        IDENTITY_KEY=secret, LOG_JSON="no",
    )  # fmt: skip
    gateway = Running(env)
    try:
        until("it has said so", lambda: "redis_not_connected" in gateway.said)
        assert secret not in gateway.said
    finally:
        gateway.close()


# -- metrics and log -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def single(server: Valkey) -> Iterator[Running]:
    """One process for several tests."""
    with running(environment(server)) as gateway:
        yield gateway


def test_metrics_are_those_of_the_contract(server: Valkey, single: Running) -> None:
    """Names and labels as written, on loopback, not on the public port; nothing from requests."""
    publish(server, "seen", quota=1)
    shown = single.url + "/v1/campaigns/seen"
    until("the campaign is known", lambda: httpx2.get(shown).status_code == 200)
    for user in ("made-up-user-1", "made-up-user-2"):
        single.grab("seen", user)
    single.grab("made-up-campaign", "made-up-user-1")
    httpx2.get(single.url + "/made-up-path")
    text = httpx2.get(single.metrics_url).text
    families = {f.name: f for f in text_string_to_metric_families(text)}
    assert set(CONTRACT) <= set(families)
    for name, labels in CONTRACT.items():
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == set(labels)
    assert "made-up" not in text
    assert single.counted("flashgrab_grabs_total") == 3
    assert single.counted("flashgrab_batch_size_sum") == 2
    assert httpx2.get(single.url + "/metrics").status_code == 404
    port = int(single.metrics_url.rpartition(":")[2].partition("/")[0])
    listening = [
        c.laddr.ip
        for c in psutil.Process(single.process.pid).net_connections("tcp")
        if c.status == psutil.CONN_LISTEN and c.laddr.port == port
    ]
    assert listening == ["127.0.0.1"]


def test_one_fault_does_not_silence_a_process() -> None:
    """A step that fails is said once and tried again; without anybody to tell it ends."""
    told, ended = threading.Event(), threading.Event()
    faults: list[Exception] = [RuntimeError("dictionary changed size"), OSError("too many files")]

    def step() -> None:
        if faults:
            raise faults.pop()
        if told.is_set():
            ended.set()
            raise BrokenPipeError
        told.set()

    with capture_logs() as logs:
        _every(0.001, step)
        assert told.wait(30)
        assert ended.wait(30)
    assert [line["event"] for line in logs] == ["report_failed"] * 2


def test_clients_do_not_fill_the_log(single: Running) -> None:
    """Junk, upgrades and broken requests leave no line, whatever a client sends."""
    before = single.said
    address = ("127.0.0.1", int(single.url.rpartition(":")[2]))
    for junk in (b"junk\r\n\r\n", b"GET /livez HTTP/1.1\r\nUp grade: x\r\n\r\n", b"\0" * 99):
        with socket.create_connection(address) as connection:
            connection.sendall(junk)
            connection.settimeout(5)
            assert connection.recv(65536).startswith(b"HTTP/1.1 400")
    upgrade = {"connection": "upgrade", "upgrade": "websocket"}
    assert httpx2.get(single.url + "/livez", headers=upgrade).status_code == 200
    assert single.said == before
