"""What the parts of a running stack show on /metrics, as Prometheus would read it."""

from collections.abc import Iterable
from typing import NamedTuple

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.running import Stack

PARTS = ("gateway", "relay", "worker", "centre")


class Sample(NamedTuple):
    """One line."""

    name: str
    labels: dict[str, str]
    value: float


def scrape(stack: Stack, part: str) -> list[Sample]:
    """Everything that a part shows now."""
    (url,) = {each["metrics"] for each in stack.run_json()[part]}
    text = httpx2.get(url, timeout=10).text
    return [
        Sample(sample.name, dict(sample.labels), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]


def total(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """The sum of those that have these labels."""
    return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())
