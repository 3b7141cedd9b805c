"""When a buyer repeats."""

from typing import Any

import pytest

from flashgrab.cli.rehearsal.rules import BACKOFF_MS_MAX, BACKOFF_MS_MIN, backoff_ms, pause_ms
from flashgrab.outcomes import Outcome

AGAIN = {
    Outcome.RATE_LIMITED,
    Outcome.NOT_WARMED,
    Outcome.BUSY,
    Outcome.BACKEND_UNAVAILABLE,
    Outcome.NOT_STARTED,
    Outcome.PAUSED,
}


@pytest.mark.parametrize("outcome", list(Outcome), ids=lambda outcome: outcome.name)
def test_each_outcome_is_final_or_repeated(outcome: Outcome) -> None:
    """Exactly those that may change by themselves are repeated, after the pause they ask for."""
    body = {"code": outcome.name, "retry_after_ms": 1234}
    pause = pause_ms(outcome.value.status, body, 1)
    if outcome is Outcome.REQUEST_TIMEOUT:  # it names no time: as after no answer
        assert pause is not None
    else:
        assert pause == (1234 if outcome in AGAIN else None)


@pytest.mark.parametrize(
    "status, body, expected",
    [
        (503, {}, 1000),
        (503, {"retry_after_ms": "soon"}, 1000),
        (429, {"retry_after_ms": 0}, 1),
        (409, {"code": "SOMETHING"}, None),
        (404, {}, None),
    ],
)
def test_odd_answers_have_a_pause_too(
    status: int, body: dict[str, Any], expected: int | None
) -> None:
    """A 503 without or with a strange retry_after_ms waits a second; unknown refusals are final."""
    assert pause_ms(status, body, 1) == expected


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_a_broken_answer_is_repeated_after_a_growing_pause(status: int) -> None:
    """5xx without a word, and 408, double their pause from 50 ms to a second."""
    for tries in range(1, 40):
        pause = pause_ms(status, {}, tries)
        bound = min(BACKOFF_MS_MIN * 2 ** (tries - 1), BACKOFF_MS_MAX)
        assert pause is not None
        assert bound // 2 <= pause <= bound


def test_a_crowd_does_not_come_back_at_once() -> None:
    """The pauses after no answer differ from buyer to buyer."""
    assert len({backoff_ms(6) for _ in range(100)}) > 20
