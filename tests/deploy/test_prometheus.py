"""The command of docker-compose.yml's Prometheus, by a real one where it is installed."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from flashgrab.cli.stack.ports import free_port
from tests.conftest import require
from tests.deploy.composed import HEALTHY_S, ROOT, check_of, source

pytestmark = [pytest.mark.xdist_group("compose")]
ABSENT = [name for name in ("prometheus", "wget") if shutil.which(name) is None]


def test_its_command_and_check_work(tmp_path: Path) -> None:
    """It takes its flags and its file, and is healthy by its own check; nobody is found yet."""
    require(f"no {', '.join(ABSENT)} here (make prometheus)" if ABSENT else None)
    service = source()["services"]["prometheus"]
    places = {"/etc/prometheus": str(ROOT / "deploy/prometheus"), "/prometheus": str(tmp_path)}
    words = []
    for word in service["command"]:
        name, _, value = word.partition("=")
        (place,) = [p for p in places if value == p or value.startswith(f"{p}/")] or [""]
        words.append(f"{name}={places[place]}{value[len(place) :]}" if place else word)
    port = free_port()
    listen = f"--web.listen-address=127.0.0.1:{port}"
    with (tmp_path / "log").open("w") as out:
        process = subprocess.Popen(["prometheus", *words, listen], stdout=out, stderr=out)
    try:
        check = [word.replace("9090", str(port)) for word in check_of(service)]
        end = time.monotonic() + HEALTHY_S
        while subprocess.run(check, capture_output=True, check=False).returncode:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.2)
    finally:
        process.terminate()
        process.wait(HEALTHY_S)
