"""A stand-in for a part: serves /readyz and /metrics, ends at SIGTERM. Run as a program.

`fake_part.py NAME [--processes N]`: with N > 1 it has N children that only wait.
FAKE_FAILS=NAME makes that part end at once with status 3.
FAKE_REPORT=FOLDER makes every part write the environment it got to FOLDER/NAME.json.
"""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"ok\n"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base's name
        pass


def main() -> None:
    name = sys.argv[1]
    if folder := os.environ.get("FAKE_REPORT"):
        ours = {key: value for key, value in os.environ.items() if key.startswith("FLASHGRAB_")}
        whole = Path(folder, f".{name}-{os.getpid()}")  # two relays have one name
        whole.write_text(json.dumps(ours))
        whole.replace(Path(folder, f"{name}.json"))
    if os.environ.get("FAKE_FAILS") == name:
        print("this part cannot start")
        sys.exit(3)
    processes = int(sys.argv[3]) if "--processes" in sys.argv else 1
    waiting = [sys.executable, "-c", "import sys; sys.stdin.read()"]
    children = [
        subprocess.Popen(waiting, stdin=subprocess.PIPE) for _ in range(processes) if processes > 1
    ]
    ports = [os.environ["FLASHGRAB_METRICS_PORT"]]
    ports += [
        os.environ[f"FLASHGRAB_{key}"]
        for key in ("PORT", "CENTRE_PORT")
        if f"FLASHGRAB_{key}" in os.environ
    ]
    for port in ports:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Answers)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    print("drained", flush=True)
    for child in children:
        child.kill()


signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
main()
