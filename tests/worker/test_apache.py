"""The tests of relay, worker and walker that matter to a broker, on a real Apache Kafka."""

from collections.abc import AsyncIterator, Iterator

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from flashgrab.cli.stack.postgres import Postgres
from flashgrab.cli.stack.valkey import Valkey
from tests.conftest import require
from tests.services.apache_kafka import ApacheKafka, missing
from tests.worker import test_persist as persist
from tests.worker import test_relay as relay
from tests.worker import test_watermark as watermark
from tests.worker.conftest import empty_line
from tests.worker.line import SESSION_MS, Line

pytestmark = [pytest.mark.anyio, pytest.mark.xdist_group("apache line")]


@pytest.fixture(scope="module")
def apache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka]:
    require(missing())
    more = f"group.min.session.timeout.ms={SESSION_MS}\n"
    with ApacheKafka(tmp_path_factory.mktemp("apache"), more) as broker:
        yield broker


@pytest.fixture
async def line(
    valkey_server: Valkey, postgres_server: Postgres, apache: ApacheKafka
) -> AsyncIterator[Line]:
    """The same empty stack, its broker an Apache Kafka without topics."""
    admin = AIOKafkaAdminClient(bootstrap_servers=apache.bootstrap)
    await admin.start()
    try:
        topics = [name for name in await admin.list_topics() if not name.startswith("__")]
        await admin.delete_topics(topics)
    finally:
        await admin.close()
    async with empty_line(valkey_server, postgres_server, apache.bootstrap) as fresh:
        yield fresh


test_every_fact_arrives_once = persist.test_every_fact_arrives_once
test_a_crash_of_the_worker = persist.test_a_crash_at_any_step_loses_and_doubles_nothing
test_two_workers_share_the_partitions = persist.test_two_workers_share_the_partitions
test_poison_stops_nothing = persist.test_poison_stops_nothing
test_a_conflict = persist.test_a_conflicting_row_is_a_dead_letter_and_the_first_one_stays
test_a_crash_of_the_relay = relay.test_a_crash_at_any_step_loses_and_doubles_nothing
test_every_campaign_is_relayed = (
    relay.test_every_campaign_is_relayed_and_a_new_one_is_learnt_by_the_push
)
test_holes_are_sent_again = relay.test_holes_are_sent_again_once_for_each_value
test_a_crash_of_the_walker = watermark.test_a_crash_at_any_step_is_made_up_for
test_a_hole_is_asked_for = watermark.test_a_hole_that_stays_is_asked_for_and_then_cleared
