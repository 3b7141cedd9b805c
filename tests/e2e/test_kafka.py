"""The whole way against a real Apache Kafka, by its address alone."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import require
from tests.e2e.running import Stack, simple, stack, until
from tests.services.apache_kafka import ApacheKafka, missing

pytestmark = [pytest.mark.xdist_group("kafka")]
BUYERS, QUOTA, PACE = 2000, 1500, 250


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    require(missing())
    broker = ApacheKafka(tmp_path)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()


def test_a_sale_through_apache_kafka_survives_kills(kafka: ApacheKafka, data: Path) -> None:
    """`up` with KAFKA_BOOTSTRAP: relay, worker and broker are killed, and the books balance."""
    with stack(
        data, "--demo", environment={"FLASHGRAB_KAFKA_BOOTSTRAP": kafka.bootstrap}
    ) as running:
        campaign_id = running.campaign(simple("apache", quota=QUOTA, opens="+1s"))
        crowd = running.begin(
            *("rehearse", "--campaign", campaign_id, "--buyers", str(BUYERS)),
            *("--pace", str(PACE), "--json"),
        )
        left = partial(_left, running, campaign_id)
        until("the sale is in full course", lambda: left() < QUOTA - 100)
        for part in ("relay", "worker"):
            running.back(part, running.kill(part))
        kafka.kill9()
        assert left() > 0, "the sale ended before the last kill: it showed nothing"
        kafka.restart()
        out, err = crowd.communicate(timeout=120)
        assert crowd.returncode == 0, err + out
        verdict = running.audit("--campaign", campaign_id)
        assert verdict["ok"], json.dumps(verdict, indent=1)
        (books,) = verdict["campaigns"]
        assert (books["granted"], books["persisted"], books["left"]) == (QUOTA, QUOTA, 0)
        assert running.stop() == 0


def _left(running: Stack, campaign_id: str) -> int:
    return int(running.get(f"/v1/campaigns/{campaign_id}")["rounds"][0]["left"])
