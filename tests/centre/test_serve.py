"""The centre as a process: how it starts, how it ends, what it says when it cannot."""

import re
import signal
import socket
import subprocess

import httpx2
import psutil
import pytest

from flashgrab.ledger.revision import head
from tests.centre.process import COMMAND, centre_process, environment
from tests.centre.serving import Servers, both_sides

pytestmark = pytest.mark.anyio


def ended(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """A centre that ends by itself."""
    return subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(migrated: Servers, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C are a good end, without a traceback."""
    with centre_process(migrated) as (process, _url):
        process.send_signal(number)
        _, said = process.communicate(timeout=10)
    assert process.returncode == 0, said
    assert "Traceback" not in said


def test_metrics_have_a_listener_of_their_own(migrated: Servers) -> None:
    """/metrics is on the port that the log names, and not on the public one."""
    with centre_process(migrated) as (process, url):
        assert httpx2.get(f"{url}/metrics").status_code == 404
        assert process.stderr is not None
        port = re.search(r'"metrics_port": (\d+)', process.stderr.readline())
        assert port is not None
        answer = httpx2.get(f"http://127.0.0.1:{port[1]}/metrics")
        assert "flashgrab_grabs_total" in answer.text


def test_a_port_in_use_is_said_in_one_line(migrated: Servers) -> None:
    """Exit 2, naming address and reason."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = ended(environment(migrated, port))
    assert done.returncode == 2
    assert done.stderr == f"cannot listen on 127.0.0.1:{port}: Address already in use\n"


def test_wrong_settings_are_listed_at_once(migrated: Servers) -> None:
    """Exit 2 with every problem, and never the secret."""
    env = environment(migrated, 0, ADMIN_TOKEN="short-secret", REDIS_URL="http://x")
    done = ended(env)
    assert done.returncode == 2
    assert "FLASHGRAB_ADMIN_TOKEN" in done.stderr
    assert "FLASHGRAB_REDIS_URL" in done.stderr
    assert "short-secret" not in done.stderr


async def test_a_newer_ledger_is_said_in_one_line(migrated: Servers) -> None:
    """Exit 2 with both versions and what to do."""
    async with both_sides(migrated) as sides:
        await sides.rows("UPDATE alembic_version SET version_num = '9999'")
        try:
            done = ended(environment(migrated, 0))
        finally:
            await sides.rows("UPDATE alembic_version SET version_num = $1", head())
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        f"the ledger has schema 9999, this release knows {head()}:"
        " start the release that migrated it, or a newer one"
    )


def test_a_public_host_is_warned_about(migrated: Servers) -> None:
    """The centre starts where it is told to, and its log says what is missing."""
    with centre_process(migrated, HOST="0.0.0.0") as (process, _url):
        assert process.stderr is not None
        assert "management_is_public" in process.stderr.readline()


def test_a_public_host_needs_a_long_token(migrated: Servers) -> None:
    """Exit 2: what may be short at home is tried by everybody elsewhere."""
    done = ended(environment(migrated, 0, HOST="0.0.0.0", ADMIN_TOKEN="t" * 31))
    assert done.returncode == 2
    assert "FLASHGRAB_ADMIN_TOKEN: needs at least 32 characters" in done.stderr
    assert "t" * 31 not in done.stderr


def test_the_centre_listens_at_home_unless_told(migrated: Servers) -> None:
    """Without HOST only this machine reaches the management calls."""
    with centre_process(migrated) as (process, _url):
        listening = [
            connection.laddr.ip
            for connection in psutil.Process(process.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert listening == ["127.0.0.1"] * 2  # management and metrics
