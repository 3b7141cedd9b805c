"""What Locust's buyers do with an answer."""

from typing import Any

import pytest

from flashgrab.outcomes import Outcome
from loadtests.rules import BACKOFF_S_MAX, NO_ANSWER, code_of, is_error, pause_s

AGAIN = {
    "RATE_LIMITED", "NOT_WARMED", "BUSY", "BACKEND_UNAVAILABLE", "NOT_STARTED", "PAUSED",
}  # fmt: skip
GRANT = {"grab_id": "c-1"}


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.name)
def test_each_outcome_is_recognised_and_final_or_repeated(outcome: Outcome) -> None:
    """The load test knows the closed list, though it imports nothing of the product."""
    body: dict[str, Any] = {"code": outcome.name, "retry_after_ms": 1500}
    if outcome is Outcome.GRANTED:
        body = dict(GRANT)
    if outcome is Outcome.REPLAYED:
        body = {**GRANT, "replayed": True}
    status = outcome.value.status
    assert code_of(status, body) == outcome.name
    pause = pause_s(status, body, 1)
    if outcome is Outcome.REQUEST_TIMEOUT:  # it names no time: as after no answer
        assert pause is not None
    else:
        assert pause == (1.5 if outcome.name in AGAIN else None)
    assert is_error(status, outcome.name) == (status >= 500)


@pytest.mark.parametrize(
    "status, body", [(0, {}), (200, GRANT), (201, {}), (500, {}), (302, {"code": "X"})]
)
def test_what_the_contract_has_not_is_no_answer(status: int, body: dict[str, Any]) -> None:
    """It counts into the error share."""
    assert code_of(status, body) == NO_ANSWER
    assert is_error(status, NO_ANSWER)


def test_no_answer_is_repeated_after_a_growing_pause() -> None:
    """From 50 ms to a second; so are 408 and 5xx."""
    for status in (0, 408, 500, 502):
        pauses = [pause_s(status, {}, tries) for tries in range(1, 30)]
        assert all(pause is not None and 0.02 < pause <= BACKOFF_S_MAX for pause in pauses)


def test_a_503_without_a_number_waits_a_second() -> None:
    """A proxy's 503 has no retry_after_ms."""
    assert pause_s(503, {}, 1) == 1.0
