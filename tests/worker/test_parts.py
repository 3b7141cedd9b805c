"""Relay, worker and audit as their users run them: processes, settings, signals, exit statuses."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flashgrab.cli.stack.kafka import Broker
from flashgrab.cli.stack.ports import free_port
from flashgrab.cli.stack.postgres import Postgres
from tests.services.embedded import again
from tests.worker.line import Line, until
from worker.damage import Damage
from worker.remedies import REMEDIES

pytestmark = pytest.mark.anyio

COMMAND = [sys.executable, "-P", "-m", "flashgrab.cli"]
END_S = 20


def environment(line: Line, **more: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    return {
        **clean,
        "FLASHGRAB_REDIS_URL": line.redis_url,
        "FLASHGRAB_KAFKA_BOOTSTRAP": line.bootstrap,
        "FLASHGRAB_POSTGRES_URL": line.postgres_url,
        "FLASHGRAB_KAFKA_SESSION_TIMEOUT_MS": "1000",  # the embedded broker waits half of it
        "FLASHGRAB_METRICS_PORT": "0",
        "FLASHGRAB_LOG_JSON": "true",
        **more,
    }


@contextmanager
def part(line: Line, name: str, log: Path, **more: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A part as a process; killed at the end of the block if it still runs."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            [*COMMAND, name], env=environment(line, **more), stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


async def ended(process: "subprocess.Popen[bytes]") -> int:
    """Its exit status."""

    async def status() -> tuple[int] | None:
        found = process.poll()
        return None if found is None else (found,)

    (code,) = await until(status, END_S)
    return int(code)


@pytest.fixture
async def sale(line: Line) -> Line:
    await line.publish("c1", 2000)
    await line.grant("c1", 300)
    return line


async def test_they_carry_the_facts_and_end_in_order(sale: Line, tmp_path: Path) -> None:
    """SIGTERM and SIGINT end them with 0, and what they did is whole."""
    log = tmp_path / "log"
    with part(sale, "relay", log) as relay, part(sale, "worker", log) as worker:
        await sale.settled("c1", 300)
        await sale.grant("c1", 200, start=300)
        relay.send_signal(signal.SIGTERM)
        worker.send_signal(signal.SIGINT)
        assert await ended(relay) == 0, log.read_text()
        assert await ended(worker) == 0, log.read_text()
    await sale.deliver("c1", 500)
    await sale.assert_exact("c1")
    assert "Traceback" not in log.read_text()


async def test_kill_9_loses_and_doubles_nothing(sale: Line, tmp_path: Path) -> None:
    """Both are killed again and again while grants go on; the books balance."""
    log = tmp_path / "log"
    granted = 300
    for _ in range(3):
        with part(sale, "relay", log), part(sale, "worker", log):
            await sale.persisted("c1", len(await sale.rows("c1")) + 1)
            await sale.grant("c1", 100, start=granted)
            granted += 100
    await sale.deliver("c1", granted)
    await sale.assert_exact("c1")
    assert (await sale.audit()).ok


async def test_they_wait_for_what_is_not_there(
    sale: Line, tmp_path: Path, broker_server: Broker, postgres_server: Postgres
) -> None:
    """Started before broker and ledger they wait, say so, and go on; no restart is needed."""
    log = tmp_path / "log"
    await sale.sql("CHECKPOINT")  # this server commits without waiting for its disk
    broker_server.kill()
    postgres_server.kill()
    with part(sale, "relay", log) as relay, part(sale, "worker", log) as worker:
        await until(lambda: _says(log, "#kafka-gone"), END_S)
        await until(lambda: _says(log, "#postgres-gone"), END_S)
        again(postgres_server)
        again(broker_server)
        await sale.pool.close()
        await sale.settled("c1", 300)
        assert relay.poll() is None
        assert worker.poll() is None
    assert "Traceback" not in log.read_text()


async def test_a_worker_waiting_for_its_schema_ends_at_once(line: Line, tmp_path: Path) -> None:
    """Without a ledger there is nothing to finish."""
    log = tmp_path / "log"
    empty = line.postgres_url.rpartition("/")[0] + "/postgres"
    with part(line, "worker", log, FLASHGRAB_POSTGRES_URL=empty) as worker:
        await until(lambda: _has_begun(worker), END_S)
        worker.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert await ended(worker) in (0, -signal.SIGTERM)
        assert time.monotonic() - began < 5


async def test_metrics_are_served(sale: Line, tmp_path: Path) -> None:
    """On loopback, with the names of the contract."""
    import urllib.request

    ports = {"relay": free_port(), "worker": free_port()}

    def seen(name: str) -> str:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}/metrics") as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    log = tmp_path / "log"
    relay = part(sale, "relay", log, FLASHGRAB_METRICS_PORT=str(ports["relay"]))
    worker = part(sale, "worker", log, FLASHGRAB_METRICS_PORT=str(ports["worker"]))
    with relay, worker:
        await until(lambda: _in(seen("relay"), "flashgrab_relayed_facts_total 300.0"), END_S)
        await until(
            lambda: _in(seen("relay"), 'flashgrab_outbox_entries{campaign="c1"} 0.0'), END_S
        )
        green = 'flashgrab_invariant_ok{campaign="c1",invariant="I5"} 1.0'
        await until(lambda: _in(seen("worker"), green), END_S)
        lag = 'flashgrab_persist_lag_serials{campaign="c1"} 0.0'
        await until(lambda: _in(seen("worker"), lag), END_S)


@pytest.mark.parametrize("name", ["relay", "worker"])
def test_wrong_settings_are_all_named(name: str) -> None:
    """Every problem in one go, exit 2, and no traceback."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLASHGRAB_")}
    wrong = {**clean, "FLASHGRAB_REDIS_URL": "here"}
    done = subprocess.run(
        [*COMMAND, name], env=wrong, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "FLASHGRAB_REDIS_URL" in done.stderr
    assert "FLASHGRAB_KAFKA_BOOTSTRAP" in done.stderr
    assert "Traceback" not in done.stderr


def run_audit(line: Line, *arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*COMMAND, "audit", *arguments],
        env=environment(line, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


async def test_the_audits_table_and_json(sale: Line) -> None:
    """Exit 0 and a table while the books balance; exit 1 and the damage in words when not."""
    await sale.deliver("c1", 300)
    done = await asyncio.to_thread(run_audit, sale, "--explain")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(f"\n{damage.name} ({damage.value.invariant})\n" in done.stdout for damage in Damage)
    assert "the books balance" in done.stdout
    assert "records in Kafka that the ledger has not read: 0" in done.stdout
    (row,) = [words for words in map(str.split, done.stdout.splitlines()) if words[:1] == ["c1"]]
    assert row[1:8] == ["2000", "1700", "300", "0", "300", "300", "0"]
    await sale.sql("UPDATE coupons SET user_id = 'thief' WHERE serial = 7")
    done = await asyncio.to_thread(run_audit, sale, "--explain")
    assert done.returncode == 1
    assert "c1: WRONG_USER (I5): the ledger gives a coupon to somebody else" in done.stdout
    assert "serial 7: ledger: thief, Redis: u6" in done.stdout
    _, explained = done.stdout.split("the books do NOT balance\n")
    kinds = {line for line in explained.splitlines() if line and not line.startswith(" ")}
    said = {words[1] for line in done.stdout.splitlines() if (words := line.split())[:1] == ["c1:"]}
    assert {kind.split()[0] for kind in kinds} == said
    assert f"  do: {REMEDIES[Damage.WRONG_USER]}\n  more: docs/runbook.md#i5" in explained
    done = await asyncio.to_thread(run_audit, sale, "--json", "--explain", "--campaign", "c1")
    assert done.returncode == 1
    found = json.loads(done.stdout)
    assert found["ok"] is False
    assert found["campaigns"][0]["invariants"]["I5"] is False
    assert found["campaigns"][0]["findings"][0]["damage"] == "WRONG_USER"
    explanations = {one["damage"]: one for one in found["explained"]}
    assert explanations.keys() == {damage.name for damage in Damage}
    assert explanations["WRONG_USER"] == {
        "damage": "WRONG_USER",
        "invariant": "I5",
        "found": True,
        "means": Damage.WRONG_USER.value.words,
        "do": REMEDIES[Damage.WRONG_USER],
        "runbook": "docs/runbook.md#i5",
    }
    assert not explanations["OVER_QUOTA"]["found"]


async def test_the_audits_wrong_uses(line: Line) -> None:
    """One line on stderr and exit 2, without a traceback."""
    url = line.postgres_url.rpartition("/")[0]
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["--drain", "soon"], {}, "expected a time"),
        (["--campaign", "../c1"], {}, "is not a campaign id"),
        ([], {"FLASHGRAB_REDIS_URL": "redis://127.0.0.1:1"}, "does not answer"),
        ([], {"FLASHGRAB_POSTGRES_URL": "postgresql://u:secret@127.0.0.1:1/x"}, "does not answer"),
        ([], {"FLASHGRAB_POSTGRES_URL": f"{url}/postgres"}, "the ledger is empty"),
    ]
    await line.publish("c1", 10)
    for arguments, more, what in cases:
        done = await asyncio.to_thread(run_audit, line, *arguments, **more)
        assert done.returncode == 2, (arguments, done.stdout, done.stderr)
        assert what in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert "secret" not in done.stderr


async def _says(log: Path, word: str) -> bool:
    return word in log.read_text()  # noqa: ASYNC240 (small and local)


async def _in(text: str, part: str) -> bool:
    return part in text


async def _has_begun(process: "subprocess.Popen[bytes]") -> bool:
    """It listens to signals: Python has loaded what it needs (the wait for the schema polls)."""
    import psutil

    return process.poll() is None and bool(psutil.Process(process.pid).net_connections("tcp"))
