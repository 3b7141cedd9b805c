"""The table of docs/faults.md from the results: `python -m tests.faults --table`."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any

HEAD = (
    "| | promise | fault | runs | sound | acknowledged | lost | doubled"
    " | serves again, ms (median, worst) |"
)
PROMISES = {
    "F1": "all",
    "F2": "I7",
    "F3": "I7",
    "F4": "I7, I8",
    "F5": "I3",
    "F6": "I8",
    "F7": "I5, I8",
    "F8": "I5",
    "F9": "I5",
    "F10": "I1, I7",
    "F11": "I1, I2",
    "F12": "I8",
    "F13": "I5",
    "F14": "I1, I7",
    "F15": "I5, I7",
}
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
            row.sound += record["verdict"] in ("ok", "missed")
            row.acknowledged += record.get("acknowledged", 0)
            row.lost += record.get("lost", 0)
            row.doubled += record.get("doubled", 0)
            row.times_ms += times_ms
    lines = [HEAD, "|" + "---|" * 9]
    for (scenario, fault), row in sorted(rows.items(), key=lambda item: _order(item[0])):
        numbers = (row.runs, row.sound, row.acknowledged, row.lost, row.doubled)
        shown = " | ".join(f"{number:,}" for number in numbers)
        promise = PROMISES[scenario]
        lines.append(f"| {scenario} | {promise} | {fault} | {shown} | {_times(row.times_ms)} |")
    return "\n".join(lines)


def _faults(record: Mapping[str, Any]) -> list[tuple[str, list[int]]]:
    """What a run shows: a fault with its times; several where it made several."""
    if record["verdict"] == "failed":
        return [("did not come to its end", [])]
    serve = record.get("serve_ms")
    if isinstance(serve, dict):
        done = "restart" if record["scenario"] == "F15" else "kill"
        return [(f"{done} {part}", [ms]) for part, ms in serve.items()]
    name = record.get("fault") or record.get("step") or record.get("cut") or ""
    prefix = {"F3": "power cut, ", "F8": "killed at "}.get(record["scenario"], "")
    return [(prefix + name, [record[key] for key in TIMES if record.get(key)])]


def _times(times_ms: list[int]) -> str:
    if not times_ms:
        return ""
    return f"{median_low(times_ms):,}, {max(times_ms):,}"


def _order(key: tuple[str, str]) -> tuple[int, str]:
    return int(key[0][1:]), key[1]
