"""A real Prometheus that scrapes a running stack: every expression answers, and the numbers are
those of the parts."""

import json
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from scripts.dashboards import PORTS, ROOT, of_run
from tests.conftest import require
from tests.e2e.running import Stack, simple, until
from tests.observability.scraped import PARTS
from tests.observability.test_deploy import EXPRESSIONS
from tests.observability.test_metrics import grab_many

pytestmark = [pytest.mark.xdist_group("observability")]
NEEDED = None if shutil.which("prometheus") else "Prometheus is not installed (make prometheus)"
ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"


@contextmanager
def scraping(stack: Stack, folder: Path) -> Iterator[str]:
    """A Prometheus for this stack, until the block ends: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    config = folder / "prometheus.yml"
    config.write_text(of_run(stack.run_json(), str(ALERTS), "1s"))
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    command.append(f"--web.listen-address={address}")
    log = folder / "prometheus.log"
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            yield f"http://{address}"
        except BaseException:
            print(log.read_text()[-3000:])
            raise
        finally:
            process.terminate()
            process.wait(20)


def ask(url: str, expression: str) -> list[dict[str, Any]]:
    """The samples that an expression gives now."""
    plain = expression.replace("$campaign", ".*").replace("$__rate_interval", "10s")
    answer = httpx2.get(f"{url}/api/v1/query", params={"query": plain}, timeout=10)
    said = answer.json()
    assert (answer.status_code, said["status"]) == (200, "success"), (plain, said)
    found: list[dict[str, Any]] = said["data"]["result"]
    return found


def is_up(url: str) -> bool:
    try:
        found = ask(url, "up")
    except (httpx2.TransportError, json.JSONDecodeError):
        return False
    return {s["metric"]["job"] for s in found if s["value"][1] == "1"} == {
        f"flashgrab-{part}" for part in PARTS
    }


def test_prometheus_sees_what_the_parts_show(watched: Stack, tmp_path: Path) -> None:
    """All parts are up; each expression of a dashboard or an alert answers without an error, and
    those of a sale with its numbers; no alert is on but those that a healthy sale may have."""
    require(NEEDED)
    campaign_id = watched.campaign(simple("scraped", quota=10))
    told: Counter[str] = Counter()
    grab_many(watched, campaign_id, range(4), told)
    with scraping(watched, tmp_path) as url:
        until("all parts are up", lambda: is_up(url))
        granted = f'sum(flashgrab_grabs_total{{campaign="{campaign_id}",outcome="GRANTED"}})'

        def seen(expression: str) -> str:
            found = ask(url, expression)
            return found[0]["value"][1] if found else ""

        until("the grants are there", lambda: seen(granted) == "4")
        left = f'min by (round) (flashgrab_left{{campaign="{campaign_id}"}})'
        until("what is left, too", lambda: seen(left) == "6")
        until("two scrapes", lambda: ask(url, "rate(process_cpu_seconds_total[10s])"))
        values = {place: ask(url, expression) for place, expression in EXPRESSIONS.items()}
        assert values["parts: Up: {{job}} {{instance}}"]
        assert len(values["parts: Release: {{part}} {{version}}"]) == len(PORTS)
        assert values["sale: Left: {{campaign}} {{round}}"]
        assert values["books: Invariants: {{campaign}} {{invariant}}"]
        on = httpx2.get(f"{url}/api/v1/alerts", timeout=10).json()["data"]["alerts"]
        firing = {alert["labels"]["alertname"] for alert in on if alert["state"] == "firing"}
        assert firing <= {"FlashgrabSellsOutSoon", "FlashgrabProcessDied"}
        rules = httpx2.get(f"{url}/api/v1/rules", timeout=10).json()["data"]["groups"]
        assert [r["health"] for group in rules for r in group["rules"]].count("err") == 0
