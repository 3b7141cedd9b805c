"""The services of docker-compose.yml as processes: what each image would do, done here.

What stands in for an image: valkey-server and PostgreSQL of the wheels (with initdb, as its image
runs it), Apache Kafka's jars (with the image's rule from KAFKA_… to properties) or else the
embedded broker, and this Python for our own image. valkey-cli is a stand-in where there is none.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy.make_env import MAKERS
from flashgrab.cli.stack import kafka as embedded_kafka
from flashgrab.cli.stack import postgres as embedded_postgres
from flashgrab.cli.stack import valkey as embedded_valkey
from flashgrab.cli.stack.process import plain_env, unprivileged
from tests.deploy.composed import ROOT, Machine, Service, check_of, filled, seconds, source
from tests.services import apache_kafka

FLASHGRAB = [sys.executable, "-P", "-m", "flashgrab.cli"]
NOT_PROPERTIES = ("KAFKA_HEAP_OPTS",)
TIERS = (
    ("valkey", "limiter", "kafka", "postgres"),
    ("centre", "gateway-1", "gateway-2", "relay-1", "relay-2"),
    ("worker-1", "worker-2"),
)
ORDER = tuple(name for tier in TIERS for name in tier)
"""Those of a tier start side by side, as `depends_on` allows; a test holds it against the file."""
CLI = """\
#!{python}
# As much of valkey-cli as the health check needs.
import os, socket, sys
assert sys.argv[1:] == ["ping"], sys.argv
with socket.create_connection(("127.0.0.1", {port}), 2) as server:
    server.sendall(f"AUTH {{os.environ['REDISCLI_AUTH']}}\\r\\nPING\\r\\nQUIT\\r\\n".encode())
    answer = b""
    while more := server.recv(4096):
        answer += more
print(answer.split(b"\\r\\n")[1].decode().removeprefix("+"))
"""


@dataclass
class Started:
    """What runs, and where it is."""

    machine: Machine
    secrets: Mapping[str, str]
    file: Mapping[str, Any]
    apache: bool
    services: dict[str, Service] = field(default_factory=dict)

    def url(self, service: str, number: int) -> str:
        return f"http://127.0.0.1:{self.machine.port(service, number)}"

    def here(self, name: str, value: str) -> str:
        return self.machine.mapped(name, value, [*self.file["services"], "gateway"])

    def environment(self, name: str) -> dict[str, str]:
        told: dict[str, str] = self.file["services"][name].get("environment", {})
        return {variable: self.here(name, value) for variable, value in told.items()}


@contextmanager
def started(folder: Path) -> Iterator[Started]:
    """All of ORDER, healthy; stopped at the end."""
    secrets = {name: make() for name, make in MAKERS.items()} | {"VALKEY_MEMORY": "256mb"}
    machine = Machine(folder)
    machine.ports["gateway", 8000] = machine.port("gateway-1", 8000)
    running = Started(
        machine, secrets, filled(source(), secrets), apache=apache_kafka.missing() is None
    )
    try:
        for tier in TIERS:
            with ThreadPoolExecutor() as pool:  # initdb and Kafka's format take their time
                made = list(pool.map(lambda name: _service(running, name), tier))
            for service in made:  # by this thread: Linux ends them with the one that made them
                running.services[service.name] = service
                service.start()
            for service in made:
                service.wait_healthy()
            if "postgres" in tier:
                _create_database(running)
        yield running
    except BaseException:
        print(*(f"--- {s.name}\n{s.said()}" for s in running.services.values()), file=sys.stderr)
        raise
    finally:
        for service in reversed(running.services.values()):
            service.kill()


def _service(running: Started, name: str) -> Service:
    service = running.file["services"][name]
    folder = running.machine.folder / name
    folder.mkdir()
    make = {"kafka": _kafka, "postgres": _postgres}.get(name, _part)
    if name in ("valkey", "limiter"):
        make = _valkey
    argv, environment, user = make(running, name, folder)
    check = [running.here(name, word) for word in check_of(service)]
    programs = {"python": sys.executable, "pg_isready": _postgres_program("pg_isready")}
    check[0] = programs.get(check[0], check[0])
    if name == "postgres":
        check = [
            str(running.machine.port(name, 5432)) if word == "5432" else word for word in check
        ]
    return Service(
        name,
        argv,
        plain_env() | environment,
        check,
        seconds(service.get("stop_grace_period", "10s")),
        running.machine.folder / f"{name}.log",
        user,
    )


Made = tuple[list[str], dict[str, str], dict[str, Any]]


def _part(running: Started, name: str, folder: Path) -> Made:
    """Our own image: its entry point is `flashgrab`."""
    (kind,) = running.file["services"][name]["command"]
    environment = running.environment(name)
    ports = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}
    environment["FLASHGRAB_METRICS_PORT"] = str(running.machine.port(name, ports[kind]))
    for variable in ("FLASHGRAB_PORT", "FLASHGRAB_CENTRE_PORT"):
        if number := environment.get(variable):
            environment[variable] = str(running.machine.port(name, int(number)))
    return [*FLASHGRAB, kind], environment | {"PYTHONPATH": str(ROOT)}, {}


def _valkey(running: Started, name: str, folder: Path) -> Made:
    """The image: the command as it is; its port is Valkey's own."""
    port = running.machine.port(name, 6379)
    program, *arguments = running.file["services"][name]["command"]
    assert program == "valkey-server"
    conf = folder / "password.conf"
    conf.write_text(running.file["configs"]["valkey_password"]["content"])
    places = {"/etc/valkey/password.conf": str(conf), "/data": str(folder)}
    words = [places.get(word, word) for word in arguments]
    if "--dir" not in words:
        words += ["--dir", str(folder)]  # the image's working directory
    _cli(folder, port)
    environment = running.environment(name)
    environment["PATH"] = f"{folder}:{os.environ['PATH']}"
    binary = str(embedded_valkey._binary())
    return [binary, *words, "--port", str(port), "--bind", "127.0.0.1"], environment, {}


def _cli(folder: Path, port: int) -> None:
    """valkey-cli for the health check: a real one where there is one."""
    real = shutil.which("valkey-cli") or shutil.which("redis-cli")
    text = CLI.format(python=sys.executable, port=port)
    if real is not None:
        text = f'#!/bin/sh\nexec {shlex.quote(real)} -p {port} "$@"\n'
    program = folder / "valkey-cli"
    program.write_text(text)
    program.chmod(0o755)


def _postgres_program(name: str) -> str:
    return str(embedded_postgres._programs() / name)


def _postgres(running: Started, name: str, folder: Path) -> Made:
    """The image: initdb with POSTGRES_INITDB_ARGS, then the command."""
    told, user = running.environment(name), unprivileged()
    port = running.machine.port(name, 5432)
    secret = running.machine.folder / "postgres.password"
    secret.write_text(told["POSTGRES_PASSWORD"])
    who: dict[str, Any] = {}
    if user is not None:
        who = {"user": user.uid, "group": user.gid, "extra_groups": []}
        for path in (folder, secret):
            os.chown(path, user.uid, user.gid)
        embedded_postgres.make_traversable(embedded_postgres._programs())
    words = shlex.split(told["POSTGRES_INITDB_ARGS"])
    data = folder / "data"
    subprocess.run(
        [_postgres_program("initdb"), f"--pgdata={data}", f"--username={told['POSTGRES_USER']}",
         f"--pwfile={secret}", "--no-sync", *words],
        env=plain_env(), check=True, capture_output=True, **who,
    )  # fmt: skip
    program, *arguments = running.file["services"][name]["command"]
    assert program == "postgres"
    here = ["-D", str(data), "-c", f"port={port}", "-c", "listen_addresses=127.0.0.1"]
    here += ["-c", "unix_socket_directories="]
    return [_postgres_program(program), *arguments, *here], {}, who


def _create_database(running: Started) -> None:
    """The image makes POSTGRES_DB."""
    told = running.environment("postgres")
    port = running.machine.port("postgres", 5432)
    where = f"host=127.0.0.1 port={port} user={told['POSTGRES_USER']} dbname=postgres"
    subprocess.run(
        [
            _postgres_program("psql"),
            "-X",
            "-d",
            where,
            "-c",
            f"CREATE DATABASE {told['POSTGRES_DB']}",
        ],
        env=plain_env() | {"PGPASSWORD": told["POSTGRES_PASSWORD"]},
        check=True,
        capture_output=True,
    )


def _kafka(running: Started, name: str, folder: Path) -> Made:
    """The image: KAFKA_A_B is the property a.b; storage is formatted once."""
    port = running.machine.port(name, 9092)
    if not running.apache:
        broker = embedded_kafka.Broker(port=port, log=folder / "log")
        return list(broker.command().argv), {}, {}
    told = running.environment(name) | {"KAFKA_LOG_DIRS": str(folder / "data")}
    properties = {
        variable.removeprefix("KAFKA_").replace("_", ".").lower(): value
        for variable, value in told.items()
        if variable.startswith("KAFKA_") and variable not in NOT_PROPERTIES
    }
    file = folder / "server.properties"
    file.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
    java = ["java", *apache_kafka.FAST_START, *shlex.split(told["KAFKA_HEAP_OPTS"])]
    java += [apache_kafka.FEW_LOGS, "-cp", f"{apache_kafka.LIBS}/*"]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", "format", "--cluster-id", told["CLUSTER_ID"],
         "--config", str(file)],
        check=True, capture_output=True, cwd=folder,
    )  # fmt: skip
    return [*java, "kafka.Kafka", str(file)], {}, {}
