"""What a buyer does with an answer to his grab: the client's side of the contract, pure."""

import random
from collections.abc import Mapping
from typing import Any

BACKOFF_S_MIN = 0.05
BACKOFF_S_MAX = 1.0
RETRY_AFTER_S_DEFAULT = 1.0
NO_ANSWER = "NO_ANSWER"
"""The code of a request that got no answer of the contract."""

_AGAIN_LATER = ("NOT_STARTED", "PAUSED")


def code_of(status: int, body: Mapping[str, Any]) -> str:
    """GRANTED, REPLAYED, or the code of a refusal; NO_ANSWER for anything else."""
    if status == 201 and "grab_id" in body:
        return "GRANTED"
    if status == 200 and "grab_id" in body and body.get("replayed") is True:
        return "REPLAYED"
    code = body.get("code")
    return code if status >= 400 and isinstance(code, str) else NO_ANSWER


def pause_s(status: int, body: Mapping[str, Any], tries: int) -> float | None:
    """Seconds until the same request is repeated with its key; None: the answer is final.

    No answer (status 0), 408 and 5xx without a word: doubling from 50 ms. 429, 503, too early and
    paused: what `retry_after_ms` says. `tries` counts the sendings so far, from 1.
    """
    if status in (429, 503) or (status == 409 and body.get("code") in _AGAIN_LATER):
        asked = body.get("retry_after_ms")
        return max(asked / 1000, 0.001) if isinstance(asked, int) else RETRY_AFTER_S_DEFAULT
    if status in (0, 408) or status >= 500:
        base: float = min(BACKOFF_S_MIN * 2 ** min(tries - 1, 10), BACKOFF_S_MAX)
        return base * random.uniform(0.5, 1.0)
    return None


def is_error(status: int, code: str) -> bool:
    """What counts into the error share: no answer, and 5xx. A refusal is an answer."""
    return code == NO_ANSWER or status >= 500
