"""What is made for Prometheus and Grafana: of today, and about metrics that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from yaml import safe_load

from flashgrab.alarms import RUNBOOK, Alarm
from flashgrab.measured import METRICS
from scripts.alerts import RUNBOOK as LINKS
from scripts.alerts import SEEN_FROM_OUTSIDE, of_alarm, rules
from scripts.dashboards import ROOT, files, yaml
from scripts.panels import DASHBOARDS
from tests.conftest import require
from tests.observability.promql import grouped, selected

OF_TARGETS = {"job", "instance"}
"""Labels that Prometheus adds."""
EXPRESSIONS = {
    **{f"{d.name}: {p.title}: {legend}": e
       for d in DASHBOARDS for p in d.panels for legend, e in p.expressions.items()},
    **{rule.name: rule.expression for rule in rules()},
}  # fmt: skip
PROMETHEUS = ROOT / "deploy" / "prometheus"
NEEDED = None if shutil.which("promtool") else "Prometheus is not installed (make prometheus)"


def labels_of() -> dict[str, set[str]]:
    """Every name that Prometheus may show of ours, with its labels."""
    known = {"up": set(OF_TARGETS)}
    for name, spec in METRICS.items():
        labels = {*spec.labels, *OF_TARGETS}
        if spec.kind == "histogram":
            known |= {f"{name}_sum": labels, f"{name}_count": labels}
            known[f"{name}_bucket"] = labels | {"le"}
        else:
            known[f"{name}_total" if spec.kind == "counter" else name] = labels
    return known


def test_the_files_are_of_today() -> None:
    """What scripts/dashboards.py would write is what is committed; nothing else lies there."""
    made = files()
    stale = [path for path, text in made.items() if (ROOT / path).read_text() != text]
    assert stale == [], "write them anew: make dashboards"
    there = {
        str(path.relative_to(ROOT))
        for folder in ("deploy/prometheus", "deploy/grafana")
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
    }
    assert there == {path for path in made if path.startswith("deploy/")}


@pytest.mark.parametrize("place", EXPRESSIONS)
def test_an_expression_is_about_what_there_is(place: str) -> None:
    """Its metrics are in the registry, with the labels that it selects and groups by."""
    expression, known = EXPRESSIONS[place], labels_of()
    found = selected(expression)
    assert found
    for name, labels in found:
        assert name in known
        assert labels <= known[name]
    assert set(grouped(expression)) <= set().union(*(known[name] for name, _ in found))


def test_the_check_finds_a_planted_fault() -> None:
    """The control: what is no metric, and what is no label, is seen."""
    known = labels_of()
    (wrong,) = selected('sum by (x) (rate(flashgrab_grabs{outcome="A"}[1m]))')
    assert wrong.name not in known
    (right,) = selected('sum by (le) (rate(flashgrab_grabs_total{outcam=~"A|B{1}"}[1m])) > 0.5')
    assert right.name in known
    assert not right.labels <= known[right.name]
    assert list(grouped("sum by (le, a) (x) unless on () y")) == ["le", "a"]
    with pytest.raises(ValueError, match="guess"):
        selected("guess(up)")


def test_every_metric_is_shown_or_alerted_on() -> None:
    """None is counted for nobody."""
    read = {name for e in EXPRESSIONS.values() for name, _ in selected(e)}
    shown = {re.sub(r"_(total|sum|count|bucket)$", "", name) for name in read}
    assert set(METRICS) - shown == set()


def test_every_alarm_is_an_alert_with_its_place_in_the_runbook() -> None:
    """One each; every link leads to an entry; names are not doubled."""
    found = rules()
    names = [rule.name for rule in found]
    assert len(set(names)) == len(names)
    alarms = [rule for rule in found if "flashgrab_alarm{" in rule.expression]
    assert [rule.anchor for rule in alarms] == [alarm.anchor for alarm in Alarm]
    entries = re.findall(r"^## (\S+)$", (ROOT / RUNBOOK).read_text(), re.MULTILINE)
    assert {rule.anchor for rule in found} <= set(entries)
    assert {rule.severity for rule in found} <= {"page", "ticket", "info"}


def test_grafanas_json_has_its_structure() -> None:
    """As far as it can be seen without Grafana: unique ids, panels on the grid that do not
    overlap, the provisioned source, expressions as in the panels."""
    for page in DASHBOARDS:
        shown = json.loads((ROOT / f"deploy/grafana/dashboards/{page.name}.json").read_text())
        assert shown["uid"] == f"flashgrab-{page.name}"
        panels = shown["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels) == len(page.panels)
        taken: set[tuple[int, int]] = set()
        for panel, mine in zip(panels, page.panels, strict=True):
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert at["x"] + at["w"] <= 24
            assert not cells & taken
            taken |= cells
            assert [target["expr"] for target in panel["targets"]] == list(
                mine.expressions.values()
            )
            sources = {t["datasource"]["uid"] for t in [panel, *panel["targets"]]}
            assert sources == {"flashgrab-prometheus"}
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    source = (ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text()
    assert 'uid: "flashgrab-prometheus"' in source


def test_yaml_is_what_it_says() -> None:
    """Nested dicts and lists, and texts with everything that YAML would read otherwise."""
    text = yaml({"a": {"b": ["x: y", 1], "c": [{"d": '"no"', "e": []}]}, "f": True})
    assert text == (
        'a:\n  b:\n    - "x: y"\n    - 1\n  c:\n    - d: "\\"no\\""\n      e: []\nf: true\n'
    )


# -- by Prometheus' own tools --------------------------------------------------------------------


def promtool(*words: str) -> str:
    done = subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", ["prometheus.yml", "compose.yml"])
def test_promtool_takes_the_configuration(name: str) -> None:
    """With the rules that it names."""
    require(NEEDED)
    said = promtool("check", "config", str(PROMETHEUS / name))
    assert f"{len(rules())} rules found" in said


CASES = ("alerts_test.yml", "alerts_slow_test.yml")


@pytest.mark.parametrize("name", CASES)
def test_the_rules_fire_when_they_should(name: str) -> None:
    """promtool's own test: alarms that stay, that came and went, parts that are away, shares."""
    require(NEEDED)
    assert "SUCCESS" in promtool("test", "rules", str(Path(__file__).with_name(name)))


def test_every_rule_has_a_case_that_fires() -> None:
    """By hand, but for those of the alarms, which have one form (below)."""
    fires = {
        case["alertname"]
        for name in CASES
        for group in safe_load(Path(__file__).with_name(name).read_text())["tests"]
        for case in group["alert_rule_test"]
        if case["exp_alerts"]
    }
    assert {rule.name for rule in SEEN_FROM_OUTSIDE} <= fires


def test_every_alarm_fires(tmp_path: Path) -> None:
    """Each of them once its metric is 1 and not before, with its own words, how much it matters,
    and its place in the runbook."""
    require(NEEDED)
    series, cases = [], []
    for alarm in Alarm:
        rule, job = of_alarm(alarm), f"flashgrab-{alarm.value.parts[0]}"
        of = f'alarm="{alarm.anchor}", job="{job}", instance="a"'
        series.append({"series": f"flashgrab_alarm{{{of}}}", "values": "0x10 1x10"})
        fires = {
            "exp_labels": {"job": job, "instance": "a", "severity": rule.severity},
            "exp_annotations": {
                "summary": alarm.value.words,
                "runbook_url": f"{LINKS}#{alarm.anchor}",
            },
        }
        for at, expected in (("18s", []), ("30s", [fires])):
            cases.append({"eval_time": at, "alertname": rule.name, "exp_alerts": expected})
    group = {"interval": "2s", "input_series": series, "alert_rule_test": cases}
    path = str(PROMETHEUS / "alerts.yml")
    whole = {"rule_files": [path], "evaluation_interval": "2s", "tests": [group]}
    file = tmp_path / "cases.yml"
    file.write_text(json.dumps(whole))
    assert "SUCCESS" in promtool("test", "rules", str(file))
