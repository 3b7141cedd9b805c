"""The same load against `flashgrab up`, relay, worker and ledger included, and then the audit.

Not a figure to compare: everything shares the cores here. It shows that what the gateway granted
under this load is what the ledger holds.
"""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench import wrk
from bench.processes import running
from bench.systems import CAMPAIGN, PATH, ROOT, flashgrab

SECONDS = 4
CONNECTIONS = 64
USERS = SECONDS * 60_000
READY_S = 60
DRAIN_S = 120
STOP_S = 60

CAMPAIGN_FILE = f"""
id = "{CAMPAIGN}"
name = "Bench"
[rule]
kind = "amount_off"
amount = 3000
threshold = 20000
[[rounds]]
opens_at = "now"
closes_at = "+1h"
quota = 1000000
"""


def audited(folder: Path) -> dict[str, Any]:
    """The audit's verdict over everything granted, with requests/s; or why there is none."""
    missing = [n for n in ("up", "campaign", "passes", "audit") if not _has_command(n)]
    if missing:
        return {"skipped": f"this checkout has no flashgrab/cli/{missing[0]}.py yet"}
    data, log = folder / "up", folder / "up.log"
    campaign, passes = folder / "campaign.toml", folder / "up.passes"
    campaign.write_text(CAMPAIGN_FILE)
    command = [*flashgrab(), "up", "--data", str(data), "--port", "0", "--centre-port", "0"]
    with running([*command, "--campaign", str(campaign)], os.environ, log, (), STOP_S) as up:
        gateway = _address(up, log)
        mint = ["pass", "mint", "--campaign", CAMPAIGN, "--users", str(USERS), "--out", str(passes)]
        _call(data, *mint)
        seen = wrk.drive(gateway, PATH, passes, connections=CONNECTIONS, seconds=SECONDS, cores=())
        audit = ["audit", "--campaign", CAMPAIGN, "--drain", f"{DRAIN_S}s", "--json"]
        verdict = json.loads(_call(data, *audit))
    books = verdict["campaigns"][0]
    if seen.refused or seen.broken or not 0 <= books["granted"] - seen.requests <= CONNECTIONS:
        raise wrk.BadRun(f"{books['granted']} granted, wrk saw {seen}")
    return {
        "ok": verdict["ok"],
        "granted": books["granted"],
        "persisted": books["persisted"],
        "per_second": seen.requests / seen.seconds,
        "invariants": books["invariants"],
    }


def _has_command(name: str) -> bool:
    return (ROOT / "flashgrab" / "cli" / f"{name}.py").exists()


def _call(data: Path, *command: str) -> str:
    """What a command of the command line prints. Raises BadRun where it could not do its work."""
    env = {**os.environ, "FLASHGRAB_DATA": str(data)}
    done = subprocess.run(
        [*flashgrab(), *command], env=env, capture_output=True, text=True, check=False
    )
    if done.returncode not in {0, 1}:  # 1 is bad news, which the JSON tells
        raise wrk.BadRun(f"flashgrab {command[0]}: {done.stderr.strip()}")
    return done.stdout


def _address(up: "subprocess.Popen[bytes]", log: Path) -> str:
    """The gateway's address from the line `ready gateway=… centre=…`. Raises BadRun."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and up.poll() is None:
        if found := re.search(r"^ready gateway=(\S+)", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise wrk.BadRun(f"flashgrab up did not get ready: {log.read_text()[-800:]}")
