"""The table of docs/faults.md from the results: `python -m tests.faults --table`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

HEAD = (
    "| | fault | runs | sound | acknowledged | lost | doubled | serves again, ms (median, worst) |"
)
TIMES = ("serve_ms", "back_ms", "drained_after_ms")


@dataclass
class Row:
    """All runs of one fault."""

    runs: int = 0
    sound: int = 0
    acknowledged: int = 0
    lost: int = 0
    doubled: int = 0
    times_ms: list[int] = field(default_factory=list)


def table(records: Iterable[Mapping[str, Any]]) -> str:
    """One line a scenario, or a fault of one where it has several."""
    rows: dict[tuple[str, str], Row] = defaultdict(Row)
    for record in records:
        if record["verdict"] == "not reached":
            continue  # it showed nothing, neither way
        for fault, times_ms in _faults(record):
            row = rows[record["scenario"], fault]
            row.runs += 1
            row.sound += record["verdict"] == "ok"
            row.acknowledged += record.get("acknowledged", 0)
            row.lost += record.get("lost", 0)
            row.doubled += record.get("doubled", 0)
            row.times_ms += times_ms
    lines = [HEAD, "|" + "---|" * 8]
    for (scenario, fault), row in sorted(rows.items(), key=lambda item: _order(item[0])):
        numbers = (row.runs, row.sound, row.acknowledged, row.lost, row.doubled)
        shown = " | ".join(f"{number:,}" for number in numbers)
        lines.append(f"| {scenario} | {fault} | {shown} | {_times(row.times_ms)} |")
    return "\n".join(lines)


def _faults(record: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """What a run shows: a fault with its times; several where it made several."""
    serve = record.get("serve_ms")
    if isinstance(serve, dict):
        return [(f"kill {part}", [ms]) for part, ms in serve.items()]
    name = record.get("fault") or record.get("step") or record.get("cut") or ""
    prefix = {"F3": "power cut, ", "F8": "killed at "}.get(record["scenario"], "")
    return [(prefix + name, [record[key] for key in TIMES if record.get(key)])]


def _times(times_ms: list[int]) -> str:
    if not times_ms:
        return ""
    return f"{sorted(times_ms)[len(times_ms) // 2]:,}, {max(times_ms):,}"


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return int(key[0][1:]), key[1]
