"""What a rate limit says to the client: the 429, and the RateLimit fields.

draft-ietf-httpapi-ratelimit-headers (-10 read; no RFC yet): this file alone knows its syntax. A
field is sent where it helps: on refusals, and on answers after which one request or none is left.
"""

import random
from typing import NamedTuple

from starlette.responses import Response

from flashgrab.limits import Policies, Policy
from flashgrab.outcomes import Outcome
from gateway.replies import problem

NEAR = 1
"""Requests left, from which on answers say so."""
JITTER_MS_MIN, JITTER_MS_MAX = 50, 1000
"""Who was refused comes back up to as late again as he has to wait, within these."""


class Verdict(NamedTuple):
    """What the limits say of a request: `left` of the nearest one, REFUSED where it was not
    counted; `wait_us` until that one has one more. `is_local`: no Redis command was spent."""

    limits: Policies | None
    policy: Policy | None
    left: int
    wait_us: int
    is_local: bool


REFUSED = -1
ROOM = Verdict(None, None, NEAR + 1, 0, False)
"""Enough is left of each."""


def refusal(verdict: Verdict) -> Response:
    """429, not to be repeated before there is one more; with jitter, against a herd."""
    assert verdict.policy is not None
    wait_ms = -(-verdict.wait_us // 1000)
    jitter_ms = min(max(wait_ms, JITTER_MS_MIN), JITTER_MS_MAX)
    retry_after_ms = wait_ms + 1 + random.randrange(jitter_ms)
    scope = verdict.policy.scope
    response = problem(Outcome.RATE_LIMITED, scope=scope, retry_after_ms=retry_after_ms)
    return noted(response, verdict)


def noted(response: Response, verdict: Verdict) -> Response:
    """The answer, with the fields where they help."""
    if verdict.left <= NEAR:
        response.raw_headers += fields(verdict)
    return response


def fields(verdict: Verdict) -> list[tuple[bytes, bytes]]:
    """All policies, and of the nearest how many are left and in how many s there is one more."""
    assert verdict.limits is not None
    assert verdict.policy is not None
    listed = ", ".join(
        f'"{policy.name}";q={policy.burst};w={policy.window_us // 1_000_000}'
        for policy in verdict.limits.policies
    )
    left, wait_s = max(0, verdict.left), -(-verdict.wait_us // 1_000_000)
    nearest = f'"{verdict.policy.name}";r={left};t={wait_s}'
    return [(b"ratelimit-policy", listed.encode()), (b"ratelimit", nearest.encode())]
