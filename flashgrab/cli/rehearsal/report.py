"""What a rehearsal found: a table for people, plain data for programs. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flashgrab.cli.rehearsal.tally import Tally
from flashgrab.outcomes import Outcome


def table(tallies: Sequence[Tally]) -> str:
    """A line a campaign and, for several, their sum; a column for every refusal that occurred."""
    reasons = reasons_of(tallies)
    head = ["campaign", "buyers", "quota", "asked", "granted", "replayed"]
    head += [reason.name for reason in reasons]
    head += ["unanswered", "repeats", "seconds", "grabs/s"]
    rows = [head, *(_row(tally, reasons) for tally in tallies)]
    if len(tallies) > 1:
        rows.append(_sum_row(tallies, reasons))
    return align(rows)


def reasons_of(tallies: Iterable[Tally]) -> list[Outcome]:
    """The refusals that occurred, in the order of precedence."""
    seen = {reason for tally in tallies for reason in tally.refused}
    return [outcome for outcome in Outcome if outcome in seen]


def problem_lines(tallies: Iterable[Tally]) -> list[str]:
    """One line a problem, naming its campaign."""
    lines = []
    for tally in tallies:
        lines += [f"{tally.sale.campaign_id}: {problem}" for problem in tally.problems]
        if tally.problems_more:
            lines.append(f"{tally.sale.campaign_id}: and {tally.problems_more:,} more")
    return lines


def as_json(tally: Tally) -> dict[str, Any]:
    """One campaign as plain data."""
    return {
        "campaign_id": tally.sale.campaign_id,
        "name": tally.sale.name,
        "buyers": len(tally.sale.buyers),
        "quota": tally.sale.quota,
        "expected": tally.expected,
        "asked": tally.sale.asked,
        "granted": tally.granted,
        "others": tally.others,
        "replayed": tally.replayed,
        "refused": {reason.name: tally.refused[reason] for reason in reasons_of([tally])},
        "unanswered": tally.unanswered,
        "repeats": tally.repeats,
        "seconds": round(tally.seconds, 3),
        "grabs_per_second": round(tally.grabs_per_second, 1),
        "p99_ms": quantile_ms(tally.took_us, 0.99),
        "sold_out_ms": tally.sold_out_ms,
        "problems": [*tally.problems],
        "problems_more": tally.problems_more,
    }


def span(tallies: Sequence[Tally]) -> float:
    """Seconds from the first request to the last answer of all campaigns."""
    began = min((t.began_s for t in tallies if t.answered), default=0.0)
    return max((t.ended_s for t in tallies if t.answered), default=0.0) - began


def quantile_ms(took_us: Mapping[int, int], share: float) -> float | None:
    """A quantile of latencies counted by microseconds, in ms; None of nothing."""
    wanted, below = share * sum(took_us.values()), 0
    for took, count in sorted(took_us.items()):
        below += count
        if below >= wanted:
            return took / 1000
    return None


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width, the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(tally: Tally, reasons: Sequence[Outcome]) -> list[str]:
    counts = [len(tally.sale.buyers), tally.sale.quota, tally.sale.asked]
    counts += [tally.granted, tally.replayed, *(tally.refused[reason] for reason in reasons)]
    counts += [tally.unanswered, tally.repeats]
    return [
        tally.sale.campaign_id,
        *(f"{count:,}" for count in counts),
        f"{tally.seconds:.2f}",
        f"{tally.grabs_per_second:,.0f}",
    ]


def _sum_row(tallies: Sequence[Tally], reasons: Sequence[Outcome]) -> list[str]:
    def total(numbers: Iterable[int]) -> str:
        return f"{sum(numbers):,}"

    seconds = span(tallies)
    answered = sum(t.answered for t in tallies)
    return [
        "all",
        total(len(t.sale.buyers) for t in tallies),
        total(t.sale.quota for t in tallies),
        total(t.sale.asked for t in tallies),
        total(t.granted for t in tallies),
        total(t.replayed for t in tallies),
        *(total(t.refused[reason] for t in tallies) for reason in reasons),
        total(t.unanswered for t in tallies),
        total(t.repeats for t in tallies),
        f"{seconds:.2f}",
        f"{answered / seconds:,.0f}" if seconds > 0 else "0",
    ]
