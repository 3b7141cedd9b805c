"""Judges a labelled crowd: `python -m tests.gateway.risk.simulation [--set test|tuning|tuning-2]`.

Stopped is what is challenged or refused. People are wronged by both.
"""

import argparse
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from gateway.risk import rules as rules_module
from gateway.risk.rules import Rules, load_rules
from gateway.risk.score import Action, Risk
from tests.gateway.risk.crowds import TEST, TUNING, TUNING_2, Crowd, Labelled

SETS = {"test": TEST, "tuning": TUNING, "tuning-2": TUNING_2}
SHIPPED = Path(rules_module.__file__).with_name("rules.toml")


@dataclass
class Findings:
    """Counts of requests by kind and action, and of the reasons where people were wronged."""

    actions: dict[str, Counter[Action]] = field(default_factory=lambda: defaultdict(Counter))
    people: set[str] = field(default_factory=set)
    wronged: Counter[tuple[str, ...]] = field(default_factory=Counter)
    missed: Counter[tuple[str, ...]] = field(default_factory=Counter)

    def _sum(self, is_person: bool) -> tuple[int, int]:
        """Requests, and those stopped."""
        rows = [row for kind, row in self.actions.items() if (kind in self.people) == is_person]
        asked = sum(row.total() for row in rows)
        return asked, asked - sum(row[Action.PASS] for row in rows)

    @property
    def recall(self) -> float:
        asked, stopped = self._sum(False)
        return stopped / asked

    @property
    def precision(self) -> float:
        right, wrong = self._sum(False)[1], self._sum(True)[1]
        return right / (right + wrong)

    @property
    def false_positives(self) -> float:
        asked, stopped = self._sum(True)
        return stopped / asked


def enforced() -> Rules:
    """The shipped rules, enforced."""
    return msgspec.structs.replace(load_rules(str(SHIPPED)), mode="enforce")


def judge(requests: Iterable[Labelled], rules: Rules) -> Findings:
    risk, findings = Risk(rules), Findings()
    for labelled in requests:
        judged = risk.judge(labelled.asked)
        findings.actions[labelled.kind][judged.action] += 1
        if labelled.is_person:
            findings.people.add(labelled.kind)
            if judged.action is not Action.PASS:
                findings.wronged[judged.reasons] += 1
        elif judged.action is Action.PASS:
            findings.missed[(labelled.kind, *judged.reasons)] += 1
    return findings


def report(findings: Findings, *, why: bool) -> str:
    lines = ["| kind | requests | passed | challenged | refused | stopped |", "|---" * 6 + "|"]
    people = findings.people
    for kind, row in sorted(findings.actions.items(), key=lambda item: item[0] not in people):
        counts = " | ".join(f"{row[action]:,}" for action in Action)
        stopped = 100 * (1 - row[Action.PASS] / row.total())
        name = f"{kind} ({'people' if kind in people else 'abnormal'})"
        lines.append(f"| {name} | {row.total():,} | {counts} | {stopped:.2f} % |")
    found, right = 100 * findings.recall, 100 * findings.precision
    wronged = 100 * findings.false_positives
    total = f"recall {found:.2f} %, precision {right:.2f} %, false positives {wronged:.3f} %"
    lines += ["", total]
    if why:
        lines += [f"wronged {n}: {', '.join(r)}" for r, n in findings.wronged.most_common(12)]
        lines += [f"missed {n}: {', '.join(r)}" for r, n in findings.missed.most_common(16)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--set", choices=list(SETS), default="test")
    parser.add_argument("--why", action="store_true", help="reasons of what went wrong")
    chosen = parser.parse_args()
    crowd = Crowd(SETS[chosen.set])
    print(report(judge(crowd.requests(), enforced()), why=chosen.why))


if __name__ == "__main__":
    main()
