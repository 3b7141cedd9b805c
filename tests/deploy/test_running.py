"""Every service of docker-compose.yml, running with its own command, environment and check."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from flashgrab.cli.app import PARTS
from loadtests import identity
from tests.conftest import require
from tests.deploy.composed import HEALTHY_S, ROOT
from tests.deploy.started import ORDER, TIERS, Started
from tests.services import apache_kafka

pytestmark = [pytest.mark.xdist_group("compose")]
CAMPAIGN = "composed"
QUOTA = 40
DEFINITION = {
    "id": CAMPAIGN,
    "name": "In containers",
    "per_user": 1,
    "rule": {"kind": "amount_off", "amount": 3000, "threshold": 20000},
    "rounds": [{"opens_at": "now", "closes_at": "+2h", "quota": QUOTA}],
}


def test_the_order_here_is_one_that_the_file_allows(composed: Started) -> None:
    """Each service started after all that it waits for were healthy."""
    before: set[str] = set()
    for tier in TIERS:
        for name in tier:
            assert set(composed.file["services"][name].get("depends_on", {})) <= before
        before |= set(tier)


def test_kafka_is_the_real_one(composed: Started) -> None:
    """Apache Kafka, by the properties that its image makes of the environment."""
    require(apache_kafka.missing())
    assert composed.apache
    assert apache_kafka.answers_metadata(composed.machine.port("kafka", 9092))


@pytest.mark.parametrize("name", ORDER)
def test_a_service_is_healthy_by_its_own_check(name: str, composed: Started) -> None:
    """And the check notices when nobody is there."""
    service = composed.services[name]
    assert service.is_healthy()
    ports = [str(port) for (owner, _), port in composed.machine.ports.items() if owner == name]
    elsewhere = [re.sub("|".join(ports), "1", word) for word in service.check]
    wrong = {"REDISCLI_AUTH": "wrong"} if "valkey-cli" in service.check[-1] else {}
    assert wrong or elsewhere != service.check
    done = subprocess.run(
        elsewhere, env={**service.environment, **wrong}, capture_output=True, check=False
    )
    assert done.returncode != 0


def test_a_coupon_goes_the_whole_way(composed: Started) -> None:
    """Created at the centre, pass at one gateway, grab at the other, PERSISTED in the end."""
    staff = {"authorization": f"Bearer {composed.secrets['ADMIN_TOKEN']}"}
    with httpx2.Client(base_url=composed.url("centre", 8001), headers=staff, timeout=30) as centre:
        for path, body in (("", DEFINITION), (f"/{CAMPAIGN}/publish", {})):
            key = {"idempotency-key": f"op{len(path)}"}
            assert centre.post(f"/v1/campaigns{path}", json=body, headers=key).is_success
    one, other = (composed.url(f"gateway-{n}", 8000) for n in (1, 2))
    _until(lambda: all(_get(f"{url}/v1/campaigns/{CAMPAIGN}") for url in (one, other)))
    login = {"authorization": f"Bearer {identity.token('ann', composed.secrets['IDENTITY_KEY'])}"}
    issued = httpx2.post(f"{one}/v1/campaigns/{CAMPAIGN}/passes", headers=login, timeout=20)
    assert issued.status_code == 201, issued.text
    bearer = {"authorization": f"Bearer {issued.json()['pass']}"}
    won = httpx2.post(f"{other}/v1/campaigns/{CAMPAIGN}/grabs", headers=bearer, timeout=20)
    assert won.status_code == 201, won.text
    shown = f"{one}/v1/grabs/{won.json()['grab_id']}"
    _until(lambda: _get(shown, **bearer).get("state") == "PERSISTED")


def test_metrics_are_reached_from_other_containers_only(composed: Started) -> None:
    """Each part answers /metrics on its metrics port, and none of these is published."""
    numbers = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}
    for name, service in composed.file["services"].items():
        if (kind := service.get("command", [""])[0]) in PARTS:
            answer = httpx2.get(f"{composed.url(name, numbers[kind])}/metrics", timeout=20)
            assert "flashgrab_alarm" in answer.text
            assert not any(str(numbers[kind]) in port for port in service.get("ports", []))


def test_locusts_crowd_is_served(composed: Started, tmp_path: Path) -> None:
    """Its command as it stands, for few buyers, with tokens that it signs like the shop."""
    told = composed.file["services"]["locust"]
    words = [composed.here("locust", word) for word in (*told["entrypoint"], *told["command"])]
    words = [word.replace("/opt/load", str(ROOT)).replace("demo-1", CAMPAIGN) for word in words]
    assert words[0] == "locust"
    report = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-P", "-m", *words, "--buyers", "10", "--report", str(report)],
        env={**os.environ, **composed.environment("locust"), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=HEALTHY_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"GRANTED": 10' in report.read_text()


@pytest.mark.parametrize("name", [n for n in ORDER if n.partition("-")[0] in PARTS])
def test_a_part_drains_within_its_grace_period(name: str, composed: Started) -> None:
    """The last test of this file, since it stops them: SIGTERM, and exit status 0."""
    assert composed.services[name].stop(signal.SIGTERM) == 0


def _get(url: str, **headers: str) -> dict[str, Any]:
    answer = httpx2.get(url, headers=headers, timeout=20)
    found: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
    return found


def _until(met: Callable[[], object]) -> None:
    end = time.monotonic() + HEALTHY_S
    while not met():
        assert time.monotonic() < end
        time.sleep(0.05)
