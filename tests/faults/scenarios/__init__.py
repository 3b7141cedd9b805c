"""The named scenarios F1 … F15."""

from tests.faults.scenarios import (
    clocks,
    failover,
    kills,
    rebuilds,
    relays,
    rolling,
    sales,
    soak,
    stores,
)
from tests.faults.scenarios.scenario import Scenario

MODULES = (sales, kills, stores, clocks, soak, relays, failover, rebuilds, rolling)
ALL = {scenario.name: scenario for module in MODULES for scenario in module.SCENARIOS}

__all__ = ["ALL", "Scenario"]
