"""The named scenarios F1 … F12."""

from tests.faults.scenarios import clocks, kills, sales, stores
from tests.faults.scenarios.scenario import Scenario

ALL = {
    s.name: s
    for s in (*(*sales.SCENARIOS, *kills.SCENARIOS, *stores.SCENARIOS, *clocks.SCENARIOS),)
}

__all__ = ["ALL", "Scenario"]
