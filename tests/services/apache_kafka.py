"""A real Apache Kafka on this machine: one process, broker and controller in one (KRaft).

The jars come from `make kafka`. Java 17 or newer runs them.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, TypeAlias

from tests.services.frozen import freeze, thaw

Child: TypeAlias = "subprocess.Popen[bytes]"

ROOT = Path(__file__).resolve().parents[2]
LIBS = ROOT / ".cache" / "kafka" / "libs"
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"  # any 16 bytes in base64
FAST_START = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")
FEW_LOGS = "-Dlog4j2.level=WARN"

# Single node; short sessions, so that a broker after kill -9 is ready in 4 s instead of 12.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={log}
num.partitions=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
num.network.threads=1
num.io.threads=2
"""


class KafkaMissing(Exception):
    """Apache Kafka cannot run here; the message says what is missing and how to get it."""


def missing() -> str | None:
    """Why Apache Kafka cannot run here, or None when it can."""
    if shutil.which("java") is None:
        return "java is not installed (Debian: default-jre-headless)"
    if not (LIBS.parent / "stamp").exists():
        return f"no jars in {LIBS.relative_to(ROOT)}: run `make kafka`"
    return None


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# Linux kills the child when the thread that made it ends, so all come from one that never does.
_SPAWNER = ThreadPoolExecutor(1, "spawner")


def spawn(argv: Sequence[str], *, cwd: Path | None, output: IO[bytes] | int) -> Child:
    """Start a server that the kernel kills when this process dies (Linux), from any thread."""

    def popen() -> Child:
        return subprocess.Popen(
            argv,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 (prctl is all that it calls)
        )

    return _SPAWNER.submit(popen).result()


def _die_with_parent() -> None:
    """In the child, before exec."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


class ApacheKafka:
    """One broker whose files live in `folder`. Ports stay the same over restarts.

    `more` holds further lines of its properties.
    """

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder = folder
        self._more = more
        self.port = free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.process: Child | None = None

    def __enter__(self) -> "ApacheKafka":
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def log(self) -> Path:
        """Where the records are."""
        return self.folder / "log"

    def start(self) -> None:
        """Start and wait until the first metadata request is answered.

        Raises KafkaMissing without Java or jars, RuntimeError with the end of the server's
        output when it does not come up within START_TIMEOUT_S.
        """
        if reason := missing():
            raise KafkaMissing(reason)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.log.exists():
            self._format()
        with (self.folder / "server.log").open("ab") as output:
            argv = self._java("kafka.Kafka", str(self._properties))
            self.process = spawn(argv, cwd=self.folder, output=output)
        self._wait_ready()

    def kill9(self) -> None:
        """End it as a crash would. What it has written to its files stays."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self, *, wipe: bool = False) -> None:
        """Kill it if it runs, then start it; with `wipe` every record and topic is gone."""
        self.kill9()
        if wipe:
            shutil.rmtree(self.log, ignore_errors=True)
        self.start()

    def stop(self) -> None:
        """Ask it to stop; kill it after STOP_TIMEOUT_S."""
        if self.process is None:
            return
        thaw(self.process.pid)
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_TIMEOUT_S)
        self.kill9()

    def freeze(self) -> None:
        """Stop the process without closing its connections."""
        assert self.process is not None
        freeze(self.process.pid)

    def thaw(self) -> None:
        """Let a frozen process go on."""
        assert self.process is not None
        thaw(self.process.pid)

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _java(self, main: str, *args: str) -> list[str]:
        return ["java", *FAST_START, FEW_LOGS, "-cp", f"{LIBS}/*", main, *args]

    def _format(self) -> None:
        controller = free_port()
        self._properties.write_text(
            PROPERTIES.format(port=self.port, controller=controller, log=self.log) + self._more
        )
        done = subprocess.run(
            self._java(
                "kafka.tools.StorageTool",
                *("format", "--cluster-id", CLUSTER_ID, "--config", str(self._properties)),
            ),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
        if done.returncode:
            raise RuntimeError(f"formatting Kafka's log failed: {done.stdout}{done.stderr}")

    def _wait_ready(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            if answers_metadata(self.port):
                return
            time.sleep(0.05)
        status = self.process.poll()
        self.kill9()
        tail = (self.folder / "server.log").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"Apache Kafka did not come up (exit status {status}): {tail}")


def answers_metadata(port: int) -> bool:
    """Whether a broker on 127.0.0.1 answers a metadata request (version 1) and names a broker."""
    # length, api key 3, version 1, correlation id 7, client id "t", no topics
    body = b"\x00\x03\x00\x01\x00\x00\x00\x07\x00\x01t\x00\x00\x00\x00"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as conn:
            conn.settimeout(1.0)
            conn.sendall(len(body).to_bytes(4, "big") + body)
            head = conn.recv(12, socket.MSG_WAITALL)
    except OSError:
        return False
    brokers = int.from_bytes(head[8:12], "big", signed=True) if len(head) == 12 else 0
    return brokers > 0 and head[4:8] == b"\x00\x00\x00\x07"


def required() -> bool:
    """Whether a missing Apache Kafka fails the tests (CI) instead of skipping them."""
    return os.environ.get("CI") == "true"
