"""`make load`: Locust against a stack, for a bounded time, judged at the end.

    .venv/bin/python -m loadtests --buyers 4000 --users 50 --p99-ms 500

`--shape drop` is quiet, has a step in the second of the opening, and decays.

Exit 0 passed, 1 a threshold or the audit failed, 2 no stack. Traffic goes to 127.0.0.1 only.
"""

import argparse
import json
import secrets
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from loadtests import drop, results, stack
from loadtests.verdict import Thresholds, judge

HERE = Path(__file__).resolve().parent
GRACE_S = 30.0
"""Locust's own start and end, beyond its run time."""
STOP_S = 15
"""A user that has to go may serve its buyer to the end for so long."""
SHAPES = {"steady": "locustfile.py", "drop": "dropfile.py"}
CEILING_S = 4
PASSES_PER_S = 200
"""For the time until the opening: so slow is the fetching of passes at the worst."""
OPENS_IN_S = 5
QUIET_S = 5
"""More of that for a drop, whose buyers fetch their passes when they come."""


def main(argv: list[str] | None = None) -> int:
    """The whole load test; returns the exit status."""
    options = read_arguments(argv)
    try:
        with stack.running(options.data) as data:
            return run(options, data)
    except (stack.NotRunning, subprocess.TimeoutExpired) as error:
        print(f"loadtests: {error}", file=sys.stderr)
        return 2


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtests",
        description="Locust buyers against a running stack, or a fresh one; judged at the end.",
        epilog="Example: make load ARGS='--buyers 4000 --quota 2400 --p99-ms 500'",
    )
    add = parser.add_argument
    add("--data", type=Path, help="data folder of the stack; default: the one that runs, or a new")
    add("--buyers", type=int, default=3000, help="buyers in all (%(default)s)")
    add("--users", type=int, default=50, help="Locust users at once (%(default)s)")
    add("--quota", type=int, help="coupons; default: 60 %% of the buyers")
    add("--run-time", type=int, default=90, help="seconds at most (%(default)s)")
    add("--shape", choices=SHAPES, default="steady", help="of the crowd (%(default)s)")
    add("--p99-ms", type=float, default=500, help="threshold of a grab's p99 (%(default)s)")
    add("--error-share", type=float, default=0.001, help="threshold, 0 to 1 (%(default)s)")
    add("--no-ceiling", action="store_true", help="do not measure Locust's own limit")
    add("--results", type=Path, default=HERE / "results", help="folder of the result files")
    options = parser.parse_args(argv)
    if not 1 <= options.buyers <= 100_000 or not 1 <= options.users <= 1000:
        parser.error("expected 1 to 100000 buyers and 1 to 1000 users")
    if options.quota is None:
        options.quota = max(options.buyers * 60 // 100, 1)
    if options.quota < 1 or options.run_time < 1:
        parser.error("--quota and --run-time are at least 1")
    return options


def run(options: argparse.Namespace, data: Path) -> int:
    """Campaign, Locust, audit, verdict, result files."""
    url = stack.gateway_url(data)
    campaign_id = f"load-{secrets.token_hex(4)}"
    machine = results.machine()
    opens_in_s = OPENS_IN_S
    opens_in_s += QUIET_S if options.shape == "drop" else options.buyers // PASSES_PER_S
    print(
        f"target: gateway {url} ({data}); campaign {campaign_id}, opens in {opens_in_s} s",
        flush=True,
    )
    with tempfile.TemporaryDirectory(prefix="flashgrab-load-") as folder:
        create_campaign(data, Path(folder), campaign_id, options.quota, opens_in_s)
        report = load(Path(folder), url, campaign_id, options)
    words = ("audit", "--campaign", campaign_id, "--drain", "30s", "--json")
    audit = json.loads(stack.flashgrab(data, words, accept=(0, 1)).stdout)
    limit = None if options.no_ceiling else ceiling(options.users)
    checks = judge(
        report,
        audit,
        quota=options.quota,
        limits=Thresholds(options.p99_ms, options.error_share),
    )
    ok = all(check.ok for check in checks)
    result = {
        "at": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "ok": ok,
        "machine": machine,
        "commit": results.commit(HERE),
        "command": " ".join(["python -m loadtests", *sys.argv[1:]]),
        "shape": drop.words(options.users) if options.shape == "drop" else options.shape,
        "quota": options.quota,
        "checks": [asdict(check) for check in checks],
        "report": report,
        "ceiling_requests_per_second": limit,
        "audit": audit,
    }
    path = results.write(options.results, result)
    print(f"\n{results.closing(checks, report, limit)}\nwritten: {path}")
    return 0 if ok else 1


def create_campaign(
    data: Path, folder: Path, campaign_id: str, quota: int, opens_in_s: int
) -> None:
    """Publish a campaign of one round."""
    file = folder / "campaign.toml"
    file.write_text(
        f'id = "{campaign_id}"\nname = "Load test"\n'
        '[rule]\nkind = "amount_off"\namount = 300\nthreshold = 2000\n'
        f'[[rounds]]\nopens_at = "+{opens_in_s}s"\ncloses_at = "+1h"\nquota = {quota}\n'
    )
    stack.flashgrab(data, ["campaign", "create", str(file), "--publish"])


def load(folder: Path, url: str, campaign_id: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run Locust headless; the crowd's report. Raises NotRunning where there is none."""
    report = folder / "report.json"
    own = ["--campaign", campaign_id, "--buyers", str(options.buyers), "--report", str(report)]
    own += ["--stop-timeout", str(STOP_S)]
    locust(SHAPES[options.shape], url, options.users, options.run_time, *own)
    try:
        found: dict[str, Any] = json.loads(report.read_text())
    except OSError:
        raise stack.NotRunning("Locust wrote no report") from None
    return found


def locust(file: str, url: str, users: int, run_time_s: int, *more: str) -> None:
    """Locust, bounded by its run time and a grace; its summary goes to stderr."""
    command = [sys.executable, "-m", "locust", "-f", str(HERE / file), "--headless"]
    command += ["-u", str(users), "-r", str(users), "--run-time", f"{run_time_s}s"]
    command += ["--host", url, "--only-summary", "--exit-code-on-error", "0", *more]
    subprocess.run(command, check=False, stdout=sys.stderr, timeout=run_time_s + GRACE_S)


def ceiling(users: int) -> float | None:
    """Requests/s that Locust reaches against a server that does nothing; None where it failed."""
    with (
        tempfile.TemporaryDirectory(prefix="flashgrab-load-") as folder,
        subprocess.Popen(
            [sys.executable, "-m", "loadtests.idle_server"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server,
    ):
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        stats = Path(folder) / "stats"
        try:
            locust(
                "ceiling.py",
                f"http://127.0.0.1:{port}",
                users,
                CEILING_S,
                "--json-file",
                str(stats),
            )
        finally:
            server.communicate("")
        return read_ceiling(stats)


def read_ceiling(stats: Path) -> float | None:
    """Requests/s of Locust's own JSON statistics."""
    files = [stats, stats.with_suffix(".json")]
    text = next((file.read_text() for file in files if file.exists()), "[]")
    rows = json.loads(text)
    if not rows:
        return None
    seconds = rows[0]["last_request_timestamp"] - rows[0]["start_time"]
    return round(rows[0]["num_requests"] / seconds, 1) if seconds > 0 else None


if __name__ == "__main__":
    began_s = time.monotonic()
    status = main()
    print(f"{time.monotonic() - began_s:.0f} s", file=sys.stderr)
    sys.exit(status)
