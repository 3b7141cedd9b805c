"""Known vulnerabilities in what requirements.lock installs: `make check`.

The answer needs an advisory service. Where none answers the audit is skipped with its reason and
`make check` goes on: a check that needs the network would be switched off on the first train. It
fails for findings only, and for what is no matter of the network; with AUDIT=required it fails
where it was skipped, too.
"""

import os
import re
import subprocess
import sys

LOCK = "requirements.lock"
WITHIN_S = 60
SOCKET_S = 5
NO_SERVICE = re.compile(
    r"ServiceError|ConnectionError|ConnectTimeout|ReadTimeout|Could not connect|Max retries"
    r"|NameResolution|Connection (refused|reset|aborted)|timed out|Tunnel connection"
    r"|HTTP 5\d\d|[45]\d\d (Client|Server) Error|ProxyError|SSLError|JSONDecodeError",
    re.IGNORECASE,
)
COMMAND = (
    *(sys.executable, "-m", "pip_audit", "-r", LOCK, "--require-hashes", "--disable-pip"),
    *("--progress-spinner", "off", "--timeout", str(SOCKET_S), "--desc", "off"),
)


def verdict(status: int | None, said: str) -> tuple[str, str]:
    """`ok`, `bad` or `skipped`, and a line that says why; no status: it took too long."""
    if status == 0:
        return "ok", "no known vulnerability in requirements.lock"
    if status is None:
        return "skipped", f"no advisory service answered within {WITHIN_S} s"
    if re.search(r"Found \d+ known vulnerabilit", said):
        return "bad", said
    if NO_SERVICE.search(said):
        return "skipped", f"no advisory service: {said.strip().splitlines()[-1][:200]}"
    return "bad", said


def main() -> int:
    more = sys.argv[1:]
    try:
        done = subprocess.run(
            [*COMMAND, *more],
            capture_output=True, text=True, timeout=WITHIN_S, check=False,
        )  # fmt: skip
        status, said = done.returncode, done.stdout + done.stderr
    except subprocess.TimeoutExpired:
        status, said = None, ""
    outcome, why = verdict(status, said)
    print(f"dependency audit {outcome}: {why}")
    return int(outcome == "bad" or (outcome == "skipped" and os.environ.get("AUDIT") == "required"))


if __name__ == "__main__":
    raise SystemExit(main())
