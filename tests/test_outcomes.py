"""outcomes.py: the closed list, its order and what each answer carries."""

import pytest

from flashgrab.outcomes import BY_SCRIPT_CODE, Outcome, Verdict

PRECEDENCE = [
    "INVALID_REQUEST", "IDEMPOTENCY_KEY_INVALID", "PASS_INVALID", "PASS_OTHER_CAMPAIGN",
    "BLOCKED", "NOT_IN_AUDIENCE", "CHALLENGE_REQUIRED",
    "CAMPAIGN_NOT_FOUND", "RATE_LIMITED", "NOT_WARMED", "REPLAYED", "OFFLINE", "ENDED", "PAUSED",
    "NOT_STARTED", "BUSY", "USER_LIMIT", "DEVICE_LIMIT", "SOLD_OUT",
]  # fmt: skip
"""Contract §2, as far as it is built."""
STATUS = {
    "INVALID_REQUEST": 400, "IDEMPOTENCY_KEY_INVALID": 400, "PASS_INVALID": 401,
    "PASS_OTHER_CAMPAIGN": 403, "BLOCKED": 403, "NOT_IN_AUDIENCE": 403, "CHALLENGE_REQUIRED": 403,
    "CAMPAIGN_NOT_FOUND": 404, "RATE_LIMITED": 429, "NOT_WARMED": 503,
    "REPLAYED": 200, "OFFLINE": 409, "ENDED": 409, "PAUSED": 409, "NOT_STARTED": 409, "BUSY": 503,
    "USER_LIMIT": 409, "DEVICE_LIMIT": 409, "SOLD_OUT": 409, "BACKEND_UNAVAILABLE": 503,
    "GRANTED": 201,
}  # fmt: skip


def test_order_is_that_of_the_contract() -> None:
    """Outcomes stand in the contract's order of precedence."""
    assert [o.name for o in Outcome if o.name in PRECEDENCE] == PRECEDENCE


@pytest.mark.parametrize("name", STATUS)
def test_status(name: str) -> None:
    """Each code has the contract's HTTP status."""
    assert Outcome[name].value.status == STATUS[name]


def test_no_outcome_hides_behind_another() -> None:
    """No two names are the same outcome (equal values of an Enum would be aliases)."""
    assert len(list(Outcome)) == len(Outcome.__members__)
    assert len(list(Verdict)) == len(Verdict.__members__)


def test_retry_after_where_it_is_due() -> None:
    """Every 429 and 503 says when to come back, PAUSED too; texts are sentences."""
    for outcome in Outcome:
        answer = outcome.value
        if answer.status in (429, 503) or outcome is Outcome.PAUSED:
            assert answer.retry_after_ms > 0, outcome
        assert answer.title
        assert answer.detail.endswith((".", "-"))


def test_script_codes_are_minus_one_down() -> None:
    """The script's codes are -1 … -8, in the order of precedence."""
    assert list(BY_SCRIPT_CODE) == [-1, -2, -3, -4, -5, -6, -7, -8]
