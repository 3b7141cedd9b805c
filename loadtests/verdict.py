"""Was the load test passed? Thresholds and books against what the buyers were told. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Thresholds:
    """`p99_ms` of a grab as Locust sees it; `error_share` of grab requests: no answer or 5xx."""

    p99_ms: float
    error_share: float


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the verdict: what was asked, and what was found."""

    ok: bool
    name: str
    found: str


def judge(
    report: Mapping[str, Any], audit: Mapping[str, Any], *, quota: int, limits: Thresholds
) -> list[Check]:
    """All checks, in order: the crowd (loadtests.crowd), the thresholds, `flashgrab audit --json`.

    An audit without campaigns is a failed one.
    """
    buyers = int(report["buyers"])
    expected = min(quota, buyers)
    granted = int(report["granted"])
    requests = int(report["requests"])
    share = report["errors"] / requests if requests else 1.0
    p99_ms = float(report["latency_ms"]["p99"])
    wrong: Sequence[str] = report["wrong"]
    return [
        Check(
            report["served"] == buyers, "every buyer was served", f"{report['served']} of {buyers}"
        ),
        Check(granted == expected, "granted = min(quota, buyers)", f"{granted}, asked {expected}"),
        Check(not wrong, "every repeat was answered right", wrong[0] if wrong else "all"),
        Check(
            0 < p99_ms <= limits.p99_ms, f"p99 at most {limits.p99_ms:g} ms", f"{p99_ms:,.0f} ms"
        ),
        Check(
            share <= limits.error_share,
            f"error share at most {limits.error_share:.2%}",
            f"{share:.2%} ({report['errors']} of {requests})",
        ),
        Check(
            audit.get("ok") is True and bool(audit.get("campaigns")),
            "the books balance (I1 to I6)",
            _books(audit),
        ),
    ]


def _books(audit: Mapping[str, Any]) -> str:
    campaigns = audit.get("campaigns", [])
    broken = [
        f"{c['campaign_id']} {name}"
        for c in campaigns
        for name, kept in c["invariants"].items()
        if not kept
    ]
    if broken:
        return "broken: " + ", ".join(broken)
    return f"{sum(c['persisted'] for c in campaigns)} in the ledger" if campaigns else "no audit"
