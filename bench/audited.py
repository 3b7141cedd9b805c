"""The same load against `flashgrab up`, relay, worker and ledger included, and then the audit.

Not a figure to compare: everything shares the cores here. It shows that what the gateway granted
under this load is what the ledger holds.
"""

import json
import re
import subprocess
import time
from pathlib import Path
from typing import Any

from bench import wrk
from bench.processes import BadRun, require, running
from bench.systems import CAMPAIGN, PATH, call, flashgrab, mint, plain_env

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
    """The audit's verdict over everything granted, with requests/s. Raises BadRun."""
    data, log = folder / "up", folder / "up.log"
    campaign, passes = folder / "campaign.toml", folder / "up.passes"
    campaign.write_text(CAMPAIGN_FILE)
    env = {**plain_env(), "FLASHGRAB_DATA": str(data)}
    command = [*flashgrab(), "up", "--port", "0", "--centre-port", "0"]
    with running([*command, "--campaign", str(campaign)], env, log, (), STOP_S) as up:
        gateway = _address(up, log)
        mint(env, passes, USERS, "u")
        seen = wrk.drive(gateway, PATH, passes, connections=CONNECTIONS, seconds=SECONDS, cores=())
        audit = ["audit", "--campaign", CAMPAIGN, "--drain", f"{DRAIN_S}s", "--json"]
        verdict = json.loads(call(env, *audit))
    books = verdict["campaigns"][0]
    in_flight = books["granted"] - seen.requests
    require(not seen.refused and not seen.broken, f"not all were granted: {seen}")
    require(0 <= in_flight <= CONNECTIONS, f"{books['granted']} granted: {seen}")
    return {
        "ok": verdict["ok"],
        "granted": books["granted"],
        "persisted": books["persisted"],
        "per_second": seen.requests / seen.seconds,
        "invariants": books["invariants"],
    }


def _address(up: "subprocess.Popen[bytes]", log: Path) -> str:
    """The gateway's address from the line `ready gateway=… centre=…`. Raises BadRun."""
    until = time.monotonic() + READY_S
    while time.monotonic() < until and up.poll() is None:
        if found := re.search(r"^ready gateway=(\S+)", log.read_text(), re.MULTILINE):
            return found[1]
        time.sleep(0.05)
    raise BadRun(f"flashgrab up did not get ready: {log.read_text()[-800:]}")
