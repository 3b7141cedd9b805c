"""When a buyer repeats, and after how long: the client's side of the contract, as pure functions.

No answer, 429 and 503: the same Idempotency-Key again, after what `retry_after_ms` says. Too early
or paused: again when it says so. Everything else is final.
"""

import random
from collections.abc import Mapping
from typing import Any

from flashgrab.outcomes import Outcome

BACKOFF_MS_MIN = 50
BACKOFF_MS_MAX = 1000
RETRY_AFTER_MS_DEFAULT = 1000

_AGAIN_LATER = {Outcome.NOT_STARTED.name, Outcome.PAUSED.name}


def pause_ms(status: int, body: Mapping[str, Any], tries: int) -> int | None:
    """Milliseconds until the same request is sent again; None: this answer is final.

    `tries` counts the sendings so far, from 1.
    """
    if status in (429, 503) or (status == 409 and body.get("code") in _AGAIN_LATER):
        asked = body.get("retry_after_ms", RETRY_AFTER_MS_DEFAULT)
        return max(int(asked), 1) if isinstance(asked, int | float) else RETRY_AFTER_MS_DEFAULT
    if status == 408 or status >= 500:
        return backoff_ms(tries)
    return None


def backoff_ms(tries: int) -> int:
    """After no answer: doubling from 50 ms to 1 s, with jitter, so that a crowd spreads."""
    base = min(BACKOFF_MS_MIN << min(tries - 1, 10), BACKOFF_MS_MAX)
    return base // 2 + random.randrange(base // 2 + 1)
