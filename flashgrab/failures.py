"""A request that failed by a fault, ours or a service's: its id in the answer, and one line in the
log that has the same id. Refusals are no failures, and a grab's answer never has an id of ours.
"""

import logging
import secrets
import time
from contextlib import suppress

import structlog

from flashgrab.ids import is_idempotency_key

HEADER = "x-request-id"
LINES_MAX, LINES_S = 20, 60.0
"""Lines in such a time, and one that says that more are held back; a service that is away fails
every request, and its alarm says so."""
PATH_MAX = 200

log = structlog.get_logger()


def request_id(given: str) -> str:
    """The client's own X-Request-Id where it has the form of a key, else a new one."""
    return given if is_idempotency_key(given) else f"r-{secrets.token_hex(8)}"


class Failures:
    """Says failed requests in the log, not more than a bound of them."""

    def __init__(self) -> None:
        self._since = 0.0
        self._lines = 0

    def say(self, error: Exception, request: str, method: str, path: str, status: int) -> None:
        """The line of a failed request. With a traceback where the fault is ours."""
        with suppress(AttributeError):  # the server that runs us would log it again
            error.said = True  # type: ignore[attr-defined]
        if not self._may_say():
            return
        ours = not getattr(error, "retriable", False)
        log.error(
            "request_failed",
            request_id=request,
            method=method,
            path=path[:PATH_MAX],
            status=status,
            error=repr(error)[:PATH_MAX],
            exc_info=error if ours else None,
        )

    def _may_say(self) -> bool:
        now = time.monotonic()
        if now - self._since >= LINES_S:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines == LINES_MAX + 1:
            log.error("failed_requests_held_back", for_s=LINES_S)
        return self._lines <= LINES_MAX


failures = Failures()
"""Of this process."""


def is_unsaid(record: logging.LogRecord) -> bool:
    """Whether a line of `logging` is not of an error that has its line already."""
    error = record.exc_info[1] if record.exc_info else None
    return not getattr(error, "said", False)
