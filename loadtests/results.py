"""A load test as text: the closing block, and the files in results/. Pure but for `write`."""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.verdict import Check


def closing(checks: Sequence[Check], report: Mapping[str, Any], ceiling: float | None) -> str:
    """The last lines of `make load`."""
    width = max(len(check.name) for check in checks)
    lines = [
        f"{'✓' if check.ok else '✗'} {check.name.ljust(width)}  {check.found}" for check in checks
    ]
    lines.append(figures(report))
    lines.append(caveat(ceiling))
    return "\n".join(lines)


def figures(report: Mapping[str, Any]) -> str:
    """What was reached, in a line."""
    latency = report["latency_ms"]
    return (
        f"{report['requests']:,} grab requests of {report['buyers']:,} buyers over"
        f" {report['users']} connections: {report['requests_per_second']:,.0f} requests/s,"
        f" p50 {latency['p50']:.0f}, p95 {latency['p95']:.0f}, p99 {latency['p99']:.0f},"
        f" max {latency['max']:.0f} ms, {report['repeats']:,} repeats"
    )


def course(report: Mapping[str, Any]) -> str:
    """How the load went."""
    counts = " · ".join(f"{count:,}" for count in report["by_second"])
    return f"Grab requests in each second from the first one on: {counts}"


def caveat(ceiling: float | None) -> str:
    """How much of that is Locust."""
    if ceiling is None:
        return "Locust shares these cores with the stack: its own limit was not measured."
    return (
        f"Locust itself reached {ceiling:,.0f} requests/s here against a server that does nothing;"
        " it shares the cores with the stack, so this says what the stack does under Locust,"
        " not what it can do."
    )


def markdown(result: Mapping[str, Any]) -> str:
    """The result file for people."""
    machine = result["machine"]
    lines = [
        f"# Load test of {result['at']}",
        "",
        f"- machine: {', '.join(str(value) for value in machine.values())}",
        f"- commit: {result['commit']}",
        f"- command: `{result['command']}`",
        f"- shape: {result['shape']}",
        f"- verdict: {'passed' if result['ok'] else 'FAILED'}",
        "",
        "| | check | found |",
        "|---|---|---|",
    ]
    lines += [
        f"| {'✓' if c['ok'] else '✗'} | {c['name']} | {c['found']} |" for c in result["checks"]
    ]
    lines += ["", "| answer | requests |", "|---|---|"]
    lines += [f"| {code} | {count:,} |" for code, count in result["report"]["answers"].items()]
    lines += ["", figures(result["report"]), ""]
    lines += [course(result["report"]), ""]
    lines += [caveat(result["ceiling_requests_per_second"]), ""]
    return "\n".join(lines)


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """`<date>.json` and `<date>.md`; returns the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    name = str(result["at"]).replace(":", "")
    (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")
    path = folder / f"{name}.md"
    path.write_text(markdown(result), encoding="utf-8")
    return path


def machine() -> dict[str, Any]:
    """Processor, cores, system, Python, and what else went on just before."""
    return {
        "cpu": _cpu(),
        "cores": f"{os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.release()}",
        "python": f"Python {platform.python_version()}",
        "load": f"load average {os.getloadavg()[0]:.1f}",
    }


def commit(folder: Path) -> str:
    """The commit of the checkout, `+changes` where it has some; `unknown` outside one."""
    git = shutil.which("git")
    if git is None:
        return "unknown"

    def ask(*words: str) -> str:
        done = subprocess.run(
            [git, *words], cwd=folder, capture_output=True, text=True, check=False
        )
        return done.stdout.strip()

    name = ask("rev-parse", "--short", "HEAD") or "unknown"
    return name + ("+changes" if ask("status", "--porcelain") else "")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
