"""The closed list of what a grab can end in, in order of precedence (contract §2).

`code` is what the scripts return for one request; 0 where the gateway alone decides.
"""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Answer:
    """How one outcome looks from outside. `detail` says what happened and what to do."""

    status: int
    code: int
    title: str
    detail: str
    retry_after_ms: int = 0


class Outcome(Enum):
    """Every outcome of a grab or of a request around it; first match in this order wins."""

    __hash__ = object.__hash__  # Enum's own is Python, and refusals are looked up by outcome

    INVALID_REQUEST = Answer(
        400, 0, "Invalid request", "The request is not of the form that this address takes."
    )
    IDEMPOTENCY_KEY_INVALID = Answer(
        400,
        0,
        "Invalid Idempotency-Key",
        "An Idempotency-Key is 1 to 64 characters of A-Z a-z 0-9 . _ ~ -",
    )
    PASS_INVALID = Answer(
        401, 0, "Pass not valid", "Ask for a new pass at /v1/campaigns/{id}/passes."
    )
    IDENTITY_INVALID = Answer(
        401, 0, "Identity token not valid", "Sign in at the shop again and send its new token."
    )
    PASS_OTHER_CAMPAIGN = Answer(
        403, 0, "Pass of another campaign", "Ask for a pass of this campaign."
    )
    BLOCKED = Answer(403, 0, "Not possible", "This request was not accepted.")
    NOT_IN_AUDIENCE = Answer(
        403, 0, "Not for you", "This campaign is for others; look at /v1/campaigns for more."
    )
    CHALLENGE_REQUIRED = Answer(
        403, 0, "Challenge required", "Solve the challenge and ask again with X-Challenge-Answer."
    )
    CAMPAIGN_NOT_FOUND = Answer(
        404, 0, "No such campaign", "Look at /v1/campaigns for the campaigns that are open."
    )
    GRAB_NOT_FOUND = Answer(
        404, 0, "No such grab", "The grab does not exist, or belongs to somebody else."
    )
    NOT_FOUND = Answer(404, 0, "No such address", "Look at /openapi.json for what there is.")
    METHOD_NOT_ALLOWED = Answer(
        405, 0, "Method not allowed", "The Allow header names the methods of this address."
    )
    REQUEST_TOO_LARGE = Answer(413, 0, "Request too large", "A grab has an empty body.")
    URL_TOO_LONG = Answer(414, 0, "Address too long", "An address has at most 8,192 bytes.")
    HEAD_TOO_LARGE = Answer(
        431, 0, "Head too large", "The head of a request has at most 64 fields and 16 KB."
    )
    REQUEST_TIMEOUT = Answer(
        408, 0, "Request too slow", "The whole request has to arrive within 5 seconds."
    )
    RATE_LIMITED = Answer(429, 0, "Too many requests", "Wait, then try again.", 1000)
    NOT_WARMED = Answer(
        503,
        0,
        "Campaign not ready",
        "The campaign's stock is being confirmed; repeat with the same Idempotency-Key.",
        1000,
    )
    REPLAYED = Answer(200, 0, "Granted before", "The same grab, again.")
    OFFLINE = Answer(409, -1, "Campaign closed", "The campaign was taken off; nothing is left.")
    ENDED = Answer(409, -2, "Campaign ended", "The last round of this campaign is over.")
    PAUSED = Answer(409, -3, "Campaign paused", "The campaign goes on later; try again.", 5000)
    NOT_STARTED = Answer(409, -4, "Not open yet", "The round opens at opens_at.")
    BUSY = Answer(
        503, -5, "Busy", "Too many requests wait; repeat with the same Idempotency-Key.", 1000
    )
    USER_LIMIT = Answer(
        409, -6, "Limit of this user reached", "You hold as many coupons as you may have."
    )
    DEVICE_LIMIT = Answer(
        409, -7, "Limit of this device reached", "This device holds as many as it may have."
    )
    SOLD_OUT = Answer(409, -8, "Sold out", "Nothing is left in this round.")
    BACKEND_UNAVAILABLE = Answer(
        503,
        0,
        "Temporarily unavailable",
        "The outcome is not known yet; repeat with the same Idempotency-Key.",
        1000,
    )
    GRANTED = Answer(201, 0, "Granted", "The coupon is yours.")


BY_SCRIPT_CODE: dict[int, Outcome] = {o.value.code: o for o in Outcome if o.value.code}
"""What a script's refusal code means; the headers in lua/ are tested against this."""


class Verdict(Enum):
    """What grab.lua says of a whole call; anything but DECIDED means it changed nothing."""

    DECIDED = 0
    MISSING = 1
    EPOCH = 2
    RUN = 3
    FLOOR = 4
    SCHEMA = 5
    MOVED = 6
