"""The runbook and the product name the same things: alarms, lights, damages, commands, metrics."""

import re
from pathlib import Path

import pytest

from flashgrab.alarms import RUNBOOK, Alarm
from flashgrab.cli.app import COMMANDS, load
from flashgrab.measured import METRICS
from worker.damage import INVARIANTS, Damage
from worker.remedies import REMEDIES, explained

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / RUNBOOK).read_text()
ENTRIES = dict(re.findall(r"^## (\S+)\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL))


def test_every_alarm_and_light_has_its_entry_and_every_entry_is_one() -> None:
    """Both ways: what a log line points to is there, and no entry speaks of what is no more."""
    assert sorted(ENTRIES) == sorted([*(alarm.anchor for alarm in Alarm), *INVARIANTS])
    assert len({alarm.anchor for alarm in Alarm}) == len(Alarm)


@pytest.mark.parametrize("alarm", Alarm, ids=lambda alarm: alarm.anchor)
def test_an_alarms_entry_says_four_things(alarm: Alarm) -> None:
    """What you see, what it means, what to do, how to check."""
    words = re.findall(r"^- \*\*(.*?)\*\* \S", ENTRIES[alarm.anchor], re.MULTILINE)
    assert words == ["You see", "It means", "Do", "Check"]


@pytest.mark.parametrize("invariant", INVARIANTS)
def test_a_lights_entry_names_its_kinds_of_damage(invariant: str) -> None:
    """All of them, and of no other light."""
    ours = {d.name for d in Damage if d.value.invariant == invariant}
    assert set(re.findall(r"`([A-Z_]+)`", ENTRIES[invariant])) >= ours
    kinds = ENTRIES[invariant].partition("Kinds: ")[2].partition(". ")[0]
    assert set(re.findall(r"[A-Z_]{3,}", kinds)) == ours


def test_links_lead_somewhere() -> None:
    """To headings of this page; and each damage's link, too."""
    anchors = {name.lower() for name in ENTRIES}
    assert set(re.findall(r"\]\(#([^)]*)\)", TEXT)) <= anchors
    for damage in Damage:
        page, _, anchor = explained(damage)["runbook"].partition("#")
        assert page == RUNBOOK
        assert anchor in anchors


def commands(text: str) -> set[str]:
    """`flashgrab …` as it stands in code."""
    found = re.findall(r"`flashgrab ([a-z][^`\n]*)`|^flashgrab ([a-z].*)$", text, re.MULTILINE)
    return {(span or line).partition("#")[0].strip() for span, line in found}


SAID = sorted(commands(TEXT) | {c for words in REMEDIES.values() for c in commands(words)})


@pytest.mark.parametrize("said", SAID)
def test_every_command_exists(said: str) -> None:
    """With its sub-command and its options."""
    assert _exists(said.split())


def _exists(words: list[str]) -> bool:
    name, *more = words
    if name not in COMMANDS:
        return False
    command = load(name)
    if inner := getattr(command, "commands", {}):
        if not more or more[0] not in inner:
            return False
        command = inner[more.pop(0)]
    options = {option for parameter in command.params for option in parameter.opts}
    return all(word in options for word in more if word.startswith("--"))


def test_the_commands_were_found() -> None:
    """The control: code blocks and spans are read, and what is no command is none."""
    assert {"top", "audit --explain", "dead retry", "campaign pause ID"} <= set(SAID)
    assert not _exists(["audit", "--guess"])
    assert not _exists(["campaign", "guess"])
    assert not _exists(["guess"])


def test_every_metric_exists() -> None:
    """Under the name that Prometheus gives it."""
    known = {f"{name}_total" if s.kind == "counter" else name for name, s in METRICS.items()}
    assert set(re.findall(r"flashgrab_\w+", TEXT)) <= known


def test_every_damage_has_a_remedy() -> None:
    """One each, and a sentence of what it means."""
    assert set(REMEDIES) == set(Damage)
    assert all(damage.value.words and REMEDIES[damage] for damage in Damage)
