"""A failed request: an id that leads to its line, lines with a bound, no line twice."""

import logging

import pytest
from structlog.testing import capture_logs

from flashgrab.errors import StoreUnavailable
from flashgrab.failures import LINES_MAX, Failures, is_unsaid, request_id


@pytest.mark.parametrize("given", ["a", "A-z.0_~", "x" * 64])
def test_the_clients_own_id_is_taken(given: str) -> None:
    """Where it has the form of a key."""
    assert request_id(given) == given


@pytest.mark.parametrize("given", ["", "a b", "a\nb", "x" * 65, "ä", '{"a":1}'])
def test_another_form_is_replaced(given: str) -> None:
    """By a new one each time, which has the form."""
    made = {request_id(given) for _ in range(10)}
    assert len(made) == 10
    assert all(request_id(name) == name and name.startswith("r-") for name in made)


def test_a_line_says_what_failed() -> None:
    """With a traceback only where the fault is ours; its library's own line is not needed then."""
    failures = Failures()
    ours, theirs = ValueError("a fault"), StoreUnavailable("Redis does not answer")
    with capture_logs() as logs:
        failures.say(ours, "r-1", "GET", "/v1/grabs/c-1", 503)
        failures.say(theirs, "r-2", "GET", "/x" * 500, 503)
    assert logs[0] == {
        "event": "request_failed",
        "log_level": "error",
        "request_id": "r-1",
        "method": "GET",
        "path": "/v1/grabs/c-1",
        "status": 503,
        "error": "ValueError('a fault')",
        "exc_info": ours,
    }
    assert (logs[1]["exc_info"], len(logs[1]["path"])) == (None, 200)
    for error, wanted in ((ours, False), (theirs, False), (ValueError("another"), True)):
        record = logging.LogRecord("n", 40, "p", 1, "m", (), (type(error), error, None))
        assert is_unsaid(record) is wanted
    assert is_unsaid(logging.LogRecord("n", 40, "p", 1, "m", (), None))


def test_lines_have_a_bound() -> None:
    """As many as documented, and one more that says so."""
    failures = Failures()
    with capture_logs() as logs:
        for n in range(3 * LINES_MAX):
            failures.say(StoreUnavailable("away"), f"r-{n}", "GET", "/", 503)
    events = [line["event"] for line in logs]
    assert events == ["request_failed"] * LINES_MAX + ["failed_requests_held_back"]
