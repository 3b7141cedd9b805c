"""Signals and rules to a decision: the request passes, is challenged, or is refused."""

from enum import Enum
from typing import NamedTuple

from gateway.risk.rules import Condition, Rules
from gateway.risk.signals import Asked, Observer


class Action(Enum):
    """What becomes of a request for a pass."""

    PASS = "pass"  # noqa: S105 - no password
    CHALLENGE = "challenge"
    REFUSE = "refuse"


class Judged(NamedTuple):
    """`would` is what the rules say, `action` what is to be done: in shadow mode nothing."""

    action: Action
    would: Action
    points: int
    reasons: tuple[str, ...]


class Risk:
    """Judges one request after the other. What it decides hangs on the rules and on what it saw;
    it reads no clock and does no I/O."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self._observer = Observer(rules.young_h, rules.browsers, rules.odd_from, rules.fast_ms)
        self._rules = [
            (rule.name, [Condition(text) for text in rule.when], rule.points)
            for rule in rules.rules
        ]

    def judge(self, asked: Asked) -> Judged:
        signals = self._observer.observe(asked)
        points, reasons = 0, []
        for name, conditions, worth in self._rules:
            if all(condition.is_met(signals) for condition in conditions):
                points += worth
                reasons.append(name)
        would = Action.PASS
        if points >= self.rules.challenge_at:
            would = Action.REFUSE if points >= self.rules.refuse_at else Action.CHALLENGE
        enforced = self.rules.mode == "enforce"
        return Judged(would if enforced else Action.PASS, would, points, tuple(reasons))
