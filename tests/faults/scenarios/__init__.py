"""The named scenarios F1 … F12."""

from tests.faults.scenarios import kills, sales
from tests.faults.scenarios.scenario import Scenario

ALL = {s.name: s for s in (*sales.SCENARIOS, *kills.SCENARIOS)}

__all__ = ["ALL", "Scenario"]
