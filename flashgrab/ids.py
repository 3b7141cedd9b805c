"""The forms that ids from outside may have. Nothing becomes a key or a path without this check."""

import re

CAMPAIGN_ID = r"[a-z0-9][a-z0-9_-]{0,47}"
PERSON_ID = r"[A-Za-z0-9._~@-]{1,64}"
IDEMPOTENCY_KEY = r"[A-Za-z0-9._~-]{1,64}"

SEGMENT_NAME = CAMPAIGN_ID
CHANNEL = r"[a-z0-9_-]{1,32}"

GRAB_ID = rf"{CAMPAIGN_ID}-[1-9][0-9]{{0,14}}"

is_campaign_id = re.compile(CAMPAIGN_ID, re.ASCII).fullmatch
is_user_id = re.compile(PERSON_ID, re.ASCII).fullmatch
is_device_id = is_user_id
is_channel = re.compile(CHANNEL, re.ASCII).fullmatch
is_idempotency_key = re.compile(IDEMPOTENCY_KEY, re.ASCII).fullmatch

OWN_REQUEST_PREFIX = "!"
"""Starts the request ids that a gateway makes itself; no Idempotency-Key can have it."""


def grab_id(campaign_id: str, serial: int) -> str:
    """The name of one grant: campaign and serial."""
    return f"{campaign_id}-{serial}"


def split_grab_id(text: str) -> tuple[str, int] | None:
    """Campaign id and serial of a grab id; None where it cannot be one."""
    campaign_id, _, serial = text.rpartition("-")
    if not is_campaign_id(campaign_id) or not serial.isascii() or not serial.isdigit():
        return None
    if len(serial) > 15 or serial[0] == "0":
        return None
    return campaign_id, int(serial)
