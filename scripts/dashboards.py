"""Writes deploy/ (Prometheus, Grafana) and the table of metrics in docs/operations.md.

`python -m scripts.dashboards` writes all of it from the registry of metrics, flashgrab/alarms.py,
scripts/panels.py and scripts/alerts.py; a test fails where the files differ.
`python -m scripts.dashboards --run .flashgrab/run.json` prints a Prometheus configuration for a
stack that `flashgrab up` has started.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flashgrab.measured import METRICS
from scripts.alerts import RUNBOOK, rules
from scripts.panels import DASHBOARDS, Dashboard, Panel

ROOT = Path(__file__).parent.parent
PORTS = {"gateway": 9100, "relay": 9101, "worker": 9102, "centre": 9103}
CONTAINERS = {
    "gateway": ("gateway-1", "gateway-2"),
    "relay": ("relay-1", "relay-2"),
    "worker": ("worker-1", "worker-2"),
    "centre": ("centre",),
}
"""The services of docker-compose.yml, by their own names: the name that those of a part share
does not resolve to one that has stopped, so that nobody would miss it."""
SOURCE = "flashgrab-prometheus"
MADE = "# Made by scripts/dashboards.py; do not edit.\n"
BEGIN, END = "<!-- metrics: made by scripts/dashboards.py -->", "<!-- end of metrics -->"
SCRAPE = "2s"


def yaml(value: Any, indent: int = 0) -> str:
    """Plain YAML of dicts, lists and scalars; texts as JSON has them, which YAML reads."""
    pad = "  " * indent
    if isinstance(value, dict):
        return "".join(f"{pad}{key}:{_inner(inner, indent)}" for key, inner in value.items())
    lines = []
    for inner in value:
        if isinstance(inner, dict):
            lines.append(pad + "- " + yaml(inner, indent + 1).lstrip())
        else:
            lines.append(f"{pad}- {json.dumps(inner, ensure_ascii=False)}\n")
    return "".join(lines)


def _inner(value: Any, indent: int) -> str:
    if isinstance(value, dict | list) and value:
        return "\n" + yaml(value, indent + 1)
    return f" {json.dumps(value, ensure_ascii=False)}\n"


# -- Prometheus ----------------------------------------------------------------------------------


def prometheus(jobs: Mapping[str, Mapping[str, Any]], alerts: str, scrape: str = SCRAPE) -> str:
    """A configuration; `jobs` are where each part's metrics are, in Prometheus' words."""
    return MADE + yaml(
        {
            "global": {"scrape_interval": scrape, "evaluation_interval": scrape},
            "rule_files": [alerts],
            "scrape_configs": [
                {"job_name": f"flashgrab-{part}", **where} for part, where in jobs.items()
            ],
        }
    )


def at(addresses: Sequence[str]) -> dict[str, Any]:
    """These addresses."""
    return {"static_configs": [{"targets": list(addresses)}]}


def of_run(run: Mapping[str, Sequence[Mapping[str, Any]]], alerts: str, scrape: str) -> str:
    """For what a run.json lists."""
    listed = {part: dict.fromkeys(each["metrics"] for each in run[part]) for part in PORTS}
    jobs = {part: at([url.split("/")[2] for url in urls]) for part, urls in listed.items()}
    return prometheus(jobs, alerts, scrape)


def alerts() -> str:
    """The rules, in one group: they are looked at together."""
    found = [
        {
            "alert": rule.name,
            "expr": rule.expression,
            **({"for": rule.held} if rule.held != "0s" else {}),
            "labels": {"severity": rule.severity},
            "annotations": {
                "summary": rule.summary,
                "runbook_url": f"{RUNBOOK}#{rule.anchor}",
            },
        }
        for rule in rules()
    ]
    return MADE + yaml({"groups": [{"name": "flashgrab", "rules": found}]})


# -- Grafana -------------------------------------------------------------------------------------


def _panel(number: int, panel: Panel, x: int, y: int) -> dict[str, Any]:
    heat = panel.kind == "heatmap"
    custom = {"stacking": {"mode": "normal"}, "fillOpacity": 30} if panel.stacked else {}
    options: dict[str, Any] = {}
    if panel.kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "textMode": "value_and_name"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": {"type": "prometheus", "uid": SOURCE},
        "gridPos": {"h": 8, "w": panel.width, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": panel.unit, "custom": custom}, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": {"type": "prometheus", "uid": SOURCE},
                "expr": expression,
                "legendFormat": legend or "__auto",
                "format": "heatmap" if heat else "time_series",
            }
            for place, (legend, expression) in enumerate(panel.expressions.items())
        ],
    }


def dashboard(page: Dashboard) -> str:
    """Grafana's JSON of one page."""
    panels, x, y = [], 0, 0
    for number, panel in enumerate(page.panels, 1):
        if x + panel.width > 24:
            x, y = 0, y + 8
        panels.append(_panel(number, panel, x, y))
        x += panel.width
    campaign = {
        "name": "campaign",
        "type": "query",
        "datasource": {"type": "prometheus", "uid": SOURCE},
        "query": {"query": "label_values(flashgrab_left, campaign)", "refId": "campaigns"},
        "refresh": 2,
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"text": ["All"], "value": ["$__all"]},
    }
    found = {
        "uid": f"flashgrab-{page.name}",
        "title": page.title,
        "tags": ["flashgrab"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "refresh": "5s",
        "time": {"from": "now-15m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": [campaign]},
        "panels": panels,
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


# -- files ---------------------------------------------------------------------------------------


def table() -> str:
    """Every metric that a part shows."""
    rows = [
        f"| `{name}{'_total' if spec.kind == 'counter' else ''}` | {spec.kind} |"
        f" {', '.join(f'`{label}`' for label in spec.labels) or '-'} |"
        f" {'all' if len(spec.parts) == len(PORTS) else ', '.join(spec.parts)} | {spec.help} |"
        for name, spec in METRICS.items()
    ]
    head = ["| metric | kind | labels | parts | what it is |", "|---|---|---|---|---|"]
    return "\n".join([BEGIN, *head, *rows, END])


def operations() -> str:
    """docs/operations.md with the table of now."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    return before + table() + rest.split(END)[1]


def files() -> dict[str, str]:
    """Everything that is made, by its path."""
    here = {part: at([f"127.0.0.1:{port}"]) for part, port in PORTS.items()}
    there = {
        part: at([f"{name}:{port}" for name in CONTAINERS[part]]) for part, port in PORTS.items()
    }
    source = {
        "name": "Prometheus",
        "uid": SOURCE,
        "type": "prometheus",
        "access": "proxy",
        "url": "http://prometheus:9090",
        "isDefault": True,
        "jsonData": {"timeInterval": SCRAPE},
    }
    provider = {
        "name": "flashgrab",
        "type": "file",
        "allowUiUpdates": False,
        "options": {"path": "/var/lib/grafana/dashboards"},
    }
    grafana = "deploy/grafana"
    return {
        "deploy/prometheus/prometheus.yml": prometheus(here, "alerts.yml"),
        "deploy/prometheus/compose.yml": prometheus(there, "alerts.yml"),
        "deploy/prometheus/alerts.yml": alerts(),
        f"{grafana}/provisioning/datasources/prometheus.yml": MADE
        + yaml({"apiVersion": 1, "datasources": [source]}),
        f"{grafana}/provisioning/dashboards/flashgrab.yml": MADE
        + yaml({"apiVersion": 1, "providers": [provider]}),
        **{f"{grafana}/dashboards/{page.name}.json": dashboard(page) for page in DASHBOARDS},
        "docs/operations.md": operations(),
    }


def main(arguments: list[str]) -> int:
    """Write the files, or print a configuration for a running stack."""
    parser = argparse.ArgumentParser(prog="python -m scripts.dashboards", description=__doc__)
    parser.add_argument("--run", type=Path, help="run.json of a stack; prints its configuration")
    options = parser.parse_args(arguments)
    if options.run:
        run = json.loads(options.run.read_text())
        print(of_run(run, str(ROOT / "deploy/prometheus/alerts.yml"), SCRAPE), end="")
        return 0
    for path, text in files().items():
        (ROOT / path).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / path).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
