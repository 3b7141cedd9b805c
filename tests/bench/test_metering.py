"""The comparison of bench/metering.py: what counting costs a grab, in bytecodes."""

from pathlib import Path

from bench.metering import SIDES, WORKLOADS, bytecodes, table
from bench.serving import valkey
from tests.bench.conftest import ANYWHERE

COUNTING_MAX = 1.04
"""Bytecodes of a grab over those without counting; measured 1.02 to 1.03 (docs/operations.md)."""


def test_counting_costs_little(tmp_path: Path) -> None:
    """Every workload is answered as it must be on each side, and costs what it did to 0.5 %: with
    no clock in it this is no matter of load. The control: leaving the counting out costs less."""
    with valkey(tmp_path, "no", ANYWHERE) as (_, port):
        found = bytecodes(f"redis://127.0.0.1:{port}", SIDES[:2])
    assert set(found) == set(WORKLOADS)
    for workload, by_side in found.items():
        assert 1 < by_side["as it is"] / by_side["metrics off"] < COUNTING_MAX, workload


def test_the_table_has_the_ratio() -> None:
    """Of the sides that were counted."""
    costs = {workload: {"as it is": 1020.0, "metrics off": 1000.0} for workload in WORKLOADS}
    lines = table("bytecodes", costs).splitlines()
    assert lines[0] == "| bytecodes a grab | as it is | metrics off | as it is / metrics off |"
    assert lines[2] == "| W1 | 1,020 | 1,000 | 1.020 |"
