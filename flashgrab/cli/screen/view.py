"""What the live screen shows, worked out from readings. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flashgrab.cli.readings import Line
from flashgrab.clock import from_rfc3339

HISTORY_MAX = 120
"""Intervals that are kept for the sparkline and for the lag in seconds."""
FORECAST_OVER = 5
"""Intervals whose mean says when the stock ends."""
CHOICES_MAX = 9
"""Campaigns that a key can choose."""

GROUPS: dict[str, tuple[str, ...]] = {
    "granted": ("GRANTED",),
    "replayed": ("REPLAYED",),
    "limit": ("USER_LIMIT", "DEVICE_LIMIT"),
    "sold out": ("SOLD_OUT",),
    "early": ("NOT_STARTED",),
    "busy": ("BUSY", "NOT_WARMED", "BACKEND_UNAVAILABLE"),
    "too many": ("RATE_LIMITED",),
    "bad pass": ("PASS_INVALID", "PASS_OTHER_CAMPAIGN"),
}
_NAMED = frozenset(outcome for some in GROUPS.values() for outcome in some)


@dataclass(frozen=True, slots=True)
class Tick:
    """One interval: when it ended (monotonic seconds), how long it was, and its line."""

    at_s: float
    seconds: float
    line: Line


@dataclass(frozen=True, slots=True)
class Sale:
    """A campaign as buyers see it: its round that is open, or comes next, or was the last.

    `opens_in_s` is negative since the opening. Of several campaigns the sums, without a round.
    """

    name: str
    status: str
    round: int
    rounds: int
    opens_in_s: float
    closes_in_s: float
    quota: int
    left: int


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the stack on this machine; what is not known yet is None."""

    part: str
    pid: int
    cpu_percent: float | None
    memory_mib: int
    up_s: int


@dataclass(frozen=True, slots=True)
class View:
    """Everything on the screen. `campaigns` are those that keys choose, `chosen` one or all."""

    at: datetime
    campaigns: tuple[str, ...]
    chosen: str | None
    sale: Sale | None
    line: Line
    rates: tuple[float, ...]
    sold_out_in_s: float | None
    ledger_lag_s: float | None
    processes: tuple[Process, ...]
    silent: tuple[str, ...]
    interval_s: float
    held: bool = False
    help: bool = False

    @property
    def left(self) -> int | None:
        """What the gateway tells buyers, else what the metrics say."""
        return self.sale.left if self.sale else self.line.left


def outcomes(line: Line) -> dict[str, float]:
    """Grabs a second by group; what no group names is in `other`."""
    shown = {name: sum(line.grabs.get(o, 0.0) for o in some) for name, some in GROUPS.items()}
    return shown | {"other": sum(r for name, r in line.grabs.items() if name not in _NAMED)}


def rates(ticks: Sequence[Tick]) -> tuple[float, ...]:
    """Grabs a second of each interval, the oldest first."""
    return tuple(sum(tick.line.grabs.values()) for tick in ticks)


def sold_out_in_s(ticks: Sequence[Tick], left: int | None) -> float | None:
    """When the stock ends if coupons go as they do now; None where none go or none are left."""
    last = ticks[-FORECAST_OVER:]
    seconds = sum(tick.seconds for tick in last)
    granted = sum(tick.line.granted for tick in last)
    if not left or not granted or seconds <= 0:
        return None
    return left * seconds / granted


def ledger_lag_s(ticks: Sequence[Tick]) -> float | None:
    """How old the oldest grant is that the ledger lacks: `lag` of the newest grants are not in it.

    As exact as the intervals are; None where nobody says, or it is older than the history.
    """
    if not ticks or ticks[-1].line.lag is None:
        return None
    missing = ticks[-1].line.lag
    if missing <= 0:
        return 0.0
    for tick in reversed(ticks):
        missing -= tick.line.granted
        if missing <= 0:
            return ticks[-1].at_s - tick.at_s + tick.seconds
    return None


def sale(public: Mapping[str, Any], chosen: str | None) -> Sale | None:
    """From the gateway's list of campaigns; None where it has not that one, or none at all."""
    found = [
        campaign
        for campaign in public.get("campaigns", ())
        if chosen is None or campaign["campaign_id"] == chosen
    ]
    if not found:
        return None
    now_ms = from_rfc3339(public["server_time"])
    each = [_sale(campaign, now_ms) for campaign in found]
    return each[0] if chosen is not None else _together(each)


def choices(public: Mapping[str, Any], named: Iterable[str]) -> tuple[str, ...]:
    """What keys choose: campaigns that are open or open next first, then those that are over."""
    known = {c["campaign_id"]: c for c in public.get("campaigns", ())}
    now_ms = from_rfc3339(public["server_time"]) if known else 0

    def place(campaign_id: str) -> tuple[int, float, str]:
        if campaign_id not in known:
            return 2, 0, campaign_id
        found = _sale(known[campaign_id], now_ms)
        if _is_over(found):
            return 1, -found.closes_in_s, campaign_id
        return 0, max(found.opens_in_s, 0), campaign_id

    return tuple(sorted({*named, *known}, key=place)[:CHOICES_MAX])


def _is_over(one: Sale) -> bool:
    return one.status in ("OFFLINE", "ENDED") or one.closes_in_s <= 0


def _sale(campaign: Mapping[str, Any], now_ms: int) -> Sale:
    rounds = campaign["rounds"]
    ahead = [r for r in rounds if now_ms < from_rfc3339(r["closes_at"])]
    now = ahead[0] if ahead else rounds[-1]
    return Sale(
        name=campaign["name"],
        status=campaign["status"],
        round=now["round"],
        rounds=len(rounds),
        opens_in_s=(from_rfc3339(now["opens_at"]) - now_ms) / 1000,
        closes_in_s=(from_rfc3339(now["closes_at"]) - now_ms) / 1000,
        quota=now["quota"],
        left=now["left"],
    )


def _together(each: Sequence[Sale]) -> Sale:
    """All campaigns: the stock of those that are not over, and how many are open."""
    going = [one for one in each if not _is_over(one)]
    opened = sum(one.status == "CLAIMABLE" for one in each)
    return Sale(
        name="",
        status=f"{opened} of {len(each)} CLAIMABLE",
        round=0,
        rounds=0,
        opens_in_s=0,
        closes_in_s=0,
        quota=sum(one.quota for one in going),
        left=sum(one.left for one in going),
    )
