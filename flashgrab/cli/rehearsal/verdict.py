"""The closing block of a rehearsal: what had to be so, and whether it was. Pure."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from flashgrab.cli.rehearsal import books as verdicts
from flashgrab.cli.rehearsal import report
from flashgrab.cli.rehearsal.tally import Tally

CPU_PERCENT_MAX = 80.0
"""Of a core: past it the crowd itself is late, and its latencies are partly its own."""
SIGNS = {True: "✓", False: "✗", None: "·"}


@dataclass(frozen=True, slots=True)
class Threshold:
    """One of them; `ok` is None where it was not asked for."""

    name: str
    ok: bool | None
    said: str

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "ok": self.ok, "said": self.said}


def thresholds(tallies: Sequence[Tally], books: Any, p99_max_ms: float | None) -> list[Threshold]:
    """In the order in which they are shown; `books` is None where no audit was asked for."""
    over = sum(max(tally.granted - tally.sale.quota, 0) for tally in tallies)
    odd = sum(tally.unexpected for tally in tallies)
    wrong = sum(len(tally.problems) + tally.problems_more for tally in tallies)
    right = (
        "every campaign granted min(quota, buyers), one coupon a buyer,"
        " and answered every duplicate right"
    )
    others = sum(tally.others for tally in tallies)
    if others:
        right += f"; {others:,} went to other buyers"
    return [
        _p99(p99_ms(tallies), p99_max_ms),
        Threshold("refused unexpectedly", odd == 0, f"{odd:,}"),
        Threshold("oversold", over == 0, f"{over:,}"),
        Threshold("answers", not wrong, "the crowd was NOT answered right" if wrong else right),
        _audit(books),
    ]


def lines(found: Sequence[Threshold], tallies: Sequence[Tally], cpu_percent: float) -> list[str]:
    """The block, with when the coupons were gone and whether the crowd could keep up."""
    width = max(len(threshold.name) for threshold in found)
    shown = [f"{SIGNS[each.ok]} {each.name:<{width}}  {each.said}" for each in found]
    for tally in tallies:
        if tally.sold_out_ms is not None:
            name = f"{tally.sale.campaign_id} " if len(tallies) > 1 else ""
            shown.append(f"  {name}sold out {tally.sold_out_ms:,} ms after the first request")
    if cpu_percent > CPU_PERCENT_MAX:
        shown.append(
            f"! this crowd itself used {cpu_percent:.0f} % of a core: its latencies and its rate"
            " say more of it than of the gateway"
        )
    return shown


def p99_ms(tallies: Iterable[Tally]) -> float | None:
    """From the first sending of a request to its final answer, repeats and waits included."""
    took: Counter[int] = Counter()
    for tally in tallies:
        took.update(tally.took_us)
    return report.quantile_ms(took, 0.99)


def _p99(found: float | None, most: float | None) -> Threshold:
    said = "nobody asked" if found is None else f"{found:,.1f} ms"
    if most is None:
        return Threshold("p99", None, f"{said} (no bound; --p99 MS sets one)")
    return Threshold("p99", found is not None and found <= most, f"{said} (at most {most:,g})")


def _audit(books: Any) -> Threshold:
    if books is None:
        return Threshold("audit", None, "not asked for")
    first, *others = reversed(verdicts.lines(books))
    return Threshold("audit", bool(books.ok), "; ".join([first, *reversed(others)]))
