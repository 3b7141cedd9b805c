"""Each check of the verdict, passed and failed."""

from typing import Any

import pytest

from loadtests.verdict import Thresholds, judge

LIMITS = Thresholds(p99_ms=100, error_share=0.01)
REPORT: dict[str, Any] = {
    "buyers": 10,
    "served": 10,
    "granted": 6,
    "requests": 20,
    "errors": 0,
    "wrong": [],
    "latency_ms": {"p99": 90},
}
KEPT = {f"I{n}": True for n in range(1, 7)}
AUDIT: dict[str, Any] = {
    "ok": True,
    "campaigns": [{"campaign_id": "c", "persisted": 6, "invariants": KEPT}],
}


def failed(report: dict[str, Any], audit: dict[str, Any], quota: int = 6) -> list[str]:
    """The names of the checks that fail."""
    return [c.name for c in judge(report, audit, quota=quota, limits=LIMITS) if not c.ok]


def test_a_good_run_passes() -> None:
    """All six checks."""
    assert failed(REPORT, AUDIT) == []
    assert len(judge(REPORT, AUDIT, quota=6, limits=LIMITS)) == 6


@pytest.mark.parametrize(
    "change, name",
    [
        ({"served": 9}, "every buyer was served"),
        ({"granted": 5}, "granted = min(quota, buyers)"),
        ({"granted": 7}, "granted = min(quota, buyers)"),
        ({"wrong": ["u1 was told …"]}, "every repeat was answered right"),
        ({"latency_ms": {"p99": 101}}, "p99 at most 100 ms"),
        ({"latency_ms": {"p99": 0}}, "p99 at most 100 ms"),
        ({"errors": 1}, "error share at most 1.00%"),
        ({"requests": 0}, "error share at most 1.00%"),
    ],
)
def test_each_check_can_fail(change: dict[str, Any], name: str) -> None:
    """One row a check; a run without a single request passes none of its thresholds."""
    assert failed({**REPORT, **change}, AUDIT) == [name]


def test_everybody_gets_one_where_there_are_enough() -> None:
    """Granted is then the number of buyers."""
    assert failed({**REPORT, "granted": 10}, AUDIT, quota=50) == []


@pytest.mark.parametrize("audit", [{}, {"ok": False}, {"ok": True, "campaigns": []}])
def test_no_audit_is_a_failed_one(audit: dict[str, Any]) -> None:
    """Nothing audited is not ok."""
    assert failed(REPORT, audit) == ["the books balance (I1 to I6)"]


def test_broken_books_are_named() -> None:
    """Campaign and invariant."""
    broken = [{"campaign_id": "c", "persisted": 6, "invariants": {**KEPT, "I5": False}}]
    checks = judge(REPORT, {"ok": False, "campaigns": broken}, quota=6, limits=LIMITS)
    assert (checks[-1].ok, checks[-1].found) == (False, "broken: c I5")
