"""The rules of the risk score, read from a TOML file: data, so that they change without a release.

mode = "shadow"                  # or "enforce"; shadow only says what it would do
challenge_at = 50                # points
refuse_at = 120
age_claim = "account_created"    # of the identity token, seconds since 1970; "": none
young_h = 48
odd_from = 2
browsers = [["host", "user-agent", "accept"]]
[[rules]]
name = "many-accounts-on-a-device"
when = ["device_accounts >= 4", "account_age_h < 48"]   # all of them
points = 60                      # below 0: speaks for a person
"""

import operator
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.risk.signals import NAMES, Signals

RULES_BYTES_MAX = 64 * 1024
_CONDITION = re.compile(r"([a-z_]+) *(<=|>=|<|>|==) *([0-9]{1,9})", re.ASCII)
_COMPARE: dict[str, Callable[[int, int], bool]] = {
    "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq,
}  # fmt: skip


class RulesInvalid(ValueError):
    """The file, and what is wrong with it."""


class Rule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All conditions met: so many points."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,48}\Z")]
    when: Annotated[list[str], Meta(min_length=1, max_length=8)]
    points: Annotated[int, Meta(ge=-1000, le=1000)]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole file."""

    mode: Literal["shadow", "enforce"] = "shadow"
    challenge_at: Annotated[int, Meta(ge=1, le=10_000)]
    refuse_at: Annotated[int, Meta(ge=1, le=10_000)]
    age_claim: Annotated[str, Meta(max_length=64)] = "account_created"
    young_h: Annotated[int, Meta(ge=1, le=100_000)] = 48
    odd_from: Annotated[int, Meta(ge=1, le=100)] = 2
    fast_ms: Annotated[int, Meta(ge=0, le=60_000)] = 450
    browsers: Annotated[list[list[str]], Meta(max_length=16)] = msgspec.field(default_factory=list)
    rules: Annotated[list[Rule], Meta(min_length=1, max_length=100)]


class Condition:
    """One comparison; not met where the signal is not known."""

    def __init__(self, text: str) -> None:
        match = _CONDITION.fullmatch(text.strip())
        if match is None or match[1] not in NAMES:
            raise ValueError(
                f"expected a condition as device_accounts >= 4, not {text!r}; the signals are "
                + ", ".join(NAMES)
            )
        self._signal, self._holds, self._than = match[1], _COMPARE[match[2]], int(match[3])

    def is_met(self, signals: Signals) -> bool:
        value = signals.get(self._signal)
        return value is not None and self._holds(value, self._than)


def parse_rules(text: str, source: str) -> Rules:
    """Raises RulesInvalid naming the source and the field."""
    try:
        rules = msgspec.convert(tomllib.loads(text), Rules)
        for rule in rules.rules:
            for condition in rule.when:
                Condition(condition)
    except (ValueError, RecursionError) as error:
        raise RulesInvalid(f"{source}: {error}") from None
    if rules.refuse_at < rules.challenge_at:
        raise RulesInvalid(f"{source}: refuse_at: must not be below challenge_at")
    return rules


def load_rules(path: str) -> Rules:
    """Raises RulesInvalid, also where the file cannot be read."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(RULES_BYTES_MAX + 1)
        text = content.decode()
    except (OSError, ValueError) as error:
        raise RulesInvalid(f"{path}: {error}") from None
    if len(content) > RULES_BYTES_MAX:
        raise RulesInvalid(f"{path}: has at most {RULES_BYTES_MAX} bytes")
    return parse_rules(text, path)
