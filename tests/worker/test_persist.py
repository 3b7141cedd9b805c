"""Kafka to ledger."""

import pytest

from tests.worker.line import Line

pytestmark = pytest.mark.anyio


async def test_every_fact_arrives_once(line: Line) -> None:
    """Facts of one campaign go from the outbox to the ledger, and the outbox is trimmed."""
    await line.publish("c1", 200)
    await line.grant("c1", 123)
    await line.deliver("c1", 123)
    await line.assert_exact("c1")
    assert await line.outbox("c1") == []
    report = await line.audit()
    assert report.ok, report
