"""The page made of a result, to be read by people."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from bench.figures import number, spread
from bench.result import Result, Sample
from bench.targets import OURS, compare, judge, of

BOOKS = (
    "Every round: the answers that the workload should give and no others, left + granted = quota, "
    "serials, seqs and outbox dense, as many holders as grants, as many grants as answers (but for "
    "those in flight at the end)."
)
COLUMNS = (
    "system", "connections", "appendfsync", "rounds", "requests/s", "server µs (user + system)",
    "Redis µs", "script calls a request", "p50 ms", "p99 ms",
)  # fmt: skip
TITLES = {
    "W1": "W1, all granted",
    "W2": "W2, sold-out storm: the stock is gone, fresh users",
    "W3": "W3, duplicate storm: holders again and again, with their keys and with others",
}


def markdown(result: Result) -> str:
    """Machine, versions, command, tables, ratios, targets, what was skipped, the verdicts."""
    samples = result.samples
    lines = [
        f"# Grabs, side by side: {result.date[:10]}, commit {result.commit}",
        "",
        f"Command: `{result.command}`. Method: bench/README.md.",
        "",
        *(f"- {name}: {value}" for name, value in result.machine.items()),
        f"- pinning: {result.cores}",
        "- versions: " + ", ".join(f"{k} {v}" for k, v in result.versions.items()),
        f"- CPU used by everything else meanwhile: {spread([s.others for s in samples])} cores",
        *driver(samples),
        *(f"- skipped: {name}: {why}" for name, why in result.skipped.items()),
        "",
        "Medians of the rounds, lowest and highest in brackets. µs are CPU microseconds a request.",
    ]
    for workload, title in TITLES.items():
        if some := [s for s in samples if s.workload == workload]:
            lines += ["", f"## {title}", "", *table(some)]
            if ratio := ratio_table(samples, workload):
                lines += ["", *ratio]
    lines += ["", "## Targets", "", *target_table(samples)]
    lines += ["", "## W4, mixed: an open loop", "", *arrivals_table(result.arrivals)]
    if result.instructions:
        lines += ["", "## Instructions", "", *instructions_table(result.instructions)]
    lines += ["", "## The books", "", BOOKS, "", *verdicts(result.arrivals)]
    return "\n".join(lines) + "\n"


def table(samples: Sequence[Sample]) -> list[str]:
    """One row a system and condition, of one workload."""
    lines = [_row(COLUMNS), "|" + "---|" * len(COLUMNS)]
    for condition in dict.fromkeys(s.condition for s in samples):
        for system in dict.fromkeys(s.system for s in samples):
            rows = [s for s in samples if s.system == system and s.condition == condition]
            if not rows:
                continue
            fsync = "-" if system == "floor" else condition.fsync
            cells: list[object] = [system, condition.connections, fsync, len(rows)]
            cells += [spread([s.per_second for s in rows])]
            user, kernel = _median(rows, "server_user_us"), _median(rows, "server_system_us")
            cells += [f"{spread([s.server_us for s in rows])}: {user} + {kernel}"]
            cells += [spread([s.redis_us for s in rows])]
            cells += [_median(rows, "script_calls"), _median(rows, "p50_ms")]
            cells += [_median(rows, "p99_ms")]
            lines.append(_row(cells))
    return lines


def ratio_table(samples: Sequence[Sample], workload: str) -> list[str]:
    """Ours over each other system, of one workload; empty where there is no other."""
    lines = []
    others = [s for s in dict.fromkeys(s.system for s in samples) if s != OURS]
    ours_conditions = dict.fromkeys(s.condition for s in samples if s.system == OURS)
    for condition in ours_conditions:
        ours = of(samples, OURS, workload, condition)
        for other in others:
            theirs = of(samples, other, workload, condition)
            if ours and theirs and not (other == "floor" and workload == "W3"):
                cells: list[object] = [other, condition.connections, condition.fsync]
                measures = map(attrgetter, ("per_second", "server_us", "cpu_us"))
                cells += [compare(ours, theirs, measure) for measure in measures]
                lines.append(_row(cells))
    heads = ["flashgrab over", "connections", "appendfsync", "requests/s", "CPU of the server"]
    return lines and [_row([*heads, "CPU of server and Redis"]), "|" + "---|" * 6, *lines]


def target_table(samples: Sequence[Sample]) -> list[str]:
    """Every target of issue 4 that is a ratio or a figure of these workloads."""
    head = ["workload", "measure", "connections", "appendfsync", "seen", "target", ""]
    return [_row(head), "|" + "---|" * 7, *map(str, judge(samples))]


def driver(samples: Sequence[Sample]) -> list[str]:
    """How much wrk can do by itself: what it cost, and what it reached against the floor."""
    known = [s for s in samples if s.system == "floor"]
    if not known:
        return []
    cost = spread([s.driver_us for s in known])
    fastest = max(s.per_second for s in known)
    alone = number(1e6 / cost.median)
    words = f"- wrk's own ceiling: {number(fastest)} requests/s against the floor, the fastest seen"
    return [f"{words}; {cost} µs of its core a request, so {alone} requests/s of a whole core"]


def arrivals_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """W4's runs, or that there was none."""
    if not found:
        return ["Not run."]
    heads = ["against", "rate", "sent", "answered", "granted", "replayed", "p50 ms", "p99 ms"]
    heads += [
        "late sends",
        "for want of a connection",
        "latest ms",
        "generator's ceiling",
        "verdict",
    ]
    lines = [_row(heads), "|" + "---|" * len(heads)]
    for run in found:
        ceiling = run["ceiling"]
        cells = [run["where"], f"{run['rate']:,}/s", f"{run['sent']:,}", f"{run['answered']:,}"]
        cells += [f"{run['granted']:,}", f"{run['replayed']:,}"]
        cells += [number(run["p50_ms"]), number(run["p99_ms"])]
        cells += [f"{run['late']:,}", f"{run['waited']:,}", number(run["late_max_ms"])]
        cells += [f"{ceiling:,}/s" if ceiling else "not measured"]
        cells += ["reached" if run["ok"] else "**missed**: " + ", ".join(run["missed"])]
        lines.append(_row(cells))
    return lines


def instructions_table(found: dict[str, float]) -> list[str]:
    """Instructions in user space a request, by callgrind."""
    lines = ["Instructions of the server in user space a request, counted by callgrind.", ""]
    lines += ["| system, workload | instructions |", "|---|---|"]
    return lines + [f"| {name} | {number(value)} |" for name, value in found.items()]


def verdicts(found: Sequence[dict[str, Any]]) -> list[str]:
    """The full audit's words over the runs that had the whole stack behind them."""
    lines = []
    for run in found:
        if audit := run.get("audit"):
            words = "books ok" if audit["ok"] else "BOOKS NOT OK"
            lines.append(
                f"W4 against `flashgrab up`, relay, worker and ledger included: "
                f"{audit['granted']:,} granted, {audit['persisted']:,} persisted; "
                f"`flashgrab audit --drain`: **{words}** "
                f"({', '.join(audit['invariants'])})."
            )
    return lines or ["No run against the whole stack."]


def _median(rows: Sequence[Sample], name: str) -> str:
    return number(spread([getattr(s, name) for s in rows]).median)


def _row(cells: Sequence[object]) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"
