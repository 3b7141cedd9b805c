"""The closed list of what can be wrong with the books, each with its invariant and in words."""

from dataclasses import dataclass
from enum import Enum
from typing import Literal, NamedTuple

Invariant = Literal["I1", "I2", "I3", "I4", "I5", "I6"]
INVARIANTS: tuple[Invariant, ...] = ("I1", "I2", "I3", "I4", "I5", "I6")
FINDINGS_MAX = 1000
"""Findings that one reading keeps; past it the books are wrong anyway."""


class Meaning(NamedTuple):
    """Which promise is broken, and what that means for people."""

    invariant: Invariant
    words: str


class Damage(Enum):
    """Everything that the audit can call wrong."""

    OVER_QUOTA = Meaning("I1", "more coupons are out than the ledger's quota of the round allows")
    QUOTA_DIFFERS = Meaning("I1", "Redis sells from another quota than the ledger has")
    USER_LIMIT = Meaning("I2", "a user holds more coupons than one user may")
    DEVICE_LIMIT = Meaning("I2", "a device holds more coupons than one device may")
    DOUBLE_REQUEST = Meaning("I3", "one request of one user was granted more than once")
    NOT_A_HOLDER = Meaning("I3", "Redis has forgotten a holder, so a repeat would win again")
    TORN_HOLDER = Meaning("I3", "a holder's entry cannot be read, so a repeat is not recognised")
    GAP = Meaning("I4", "a fact above the watermark is in the outbox no more, so it may be lost")
    TORN_ENTRY = Meaning("I4", "an outbox entry cannot be read, so its facts cannot be sent")
    MISSING_ROW = Meaning("I5", "a coupon that was granted is not in the ledger")
    EXTRA_ROW = Meaning("I5", "the ledger has a coupon that Redis never granted")
    WRONG_USER = Meaning(
        "I5", "the ledger gives a coupon to somebody else than Redis granted it to"
    )
    ROW_DIFFERS = Meaning("I5", "a coupon's seq, round or request is another than the grant's")
    RETURN_DIFFERS = Meaning("I5", "a coupon is returned in the ledger or in Redis, not in both")
    DOUBLE = Meaning("I5", "one fact is in the ledger more than once")
    ROWS_MISCOUNTED = Meaning("I5", "the ledger's count of a round is not the number of its rows")
    DEAD_LETTER = Meaning("I5", "events could not be stored and wait in the dead table for a retry")
    NOT_DRAINED = Meaning("I5", "the ledger had not caught up when the time to drain was over")
    UNKNOWN_CAMPAIGN = Meaning("I5", "Redis sells a campaign that the ledger does not know")
    KEY_MISSING = Meaning(
        "I6", "Redis has lost the campaign's stock; it stays closed until a rebuild"
    )
    LEFT_OFF = Meaning("I6", "quota is not left + granted - returned")
    COUNTER_OFF = Meaning("I6", "Redis counts other grants or returns than the facts show")


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One thing that is wrong. `subject` names it in the same way in every reading."""

    damage_name: str
    subject: str
    detail: str = ""

    @classmethod
    def of(cls, damage: Damage, subject: str, detail: str = "") -> "Finding":
        return cls(damage.name, subject, detail)

    @property
    def damage(self) -> Damage:
        return Damage[self.damage_name]

    @property
    def key(self) -> tuple[str, str]:
        """What makes it the same finding in two readings."""
        return self.damage_name, self.subject


def verdict(findings: list[Finding]) -> dict[Invariant, bool]:
    """Which invariants stand."""
    broken = {f.damage.value.invariant for f in findings}
    return {invariant: invariant not in broken for invariant in INVARIANTS}


def in_both(first: list[Finding], second: list[Finding]) -> list[Finding]:
    """What stands in two readings, in the words of the later one."""
    keys = {f.key for f in first}
    return [f for f in second if f.key in keys]
