"""What the tests of the buyer's page share."""

import time

from tests.browser.chromium import Browser
from tests.browser.sales import Sales

YOURS = "It is yours"
AN_HOUR_AHEAD = "const now = Date.now; Date.now = () => now() + 3600_000"
"""What this device's clock shows."""
HURRY = (
    "const timer = window.setTimeout; window.setTimeout = (what, ms, ...more) =>"
    " timer(what, ms < 1500 ? ms : ms / 10, ...more)"
)
"""Pauses of seconds, and the time within which an answer has to come, are ten times as short."""


def armed(browser: Browser) -> None:
    """Wait until the button can be pressed."""
    browser.find('#grab[aria-disabled="false"]')


def is_listed(browser: Browser, sales: Sales, row: str) -> bool:
    """The list is made once a second, and kept for ten."""
    browser.open(f"{sales.url}/?{time.monotonic_ns()}")
    return bool(browser.run("return document.querySelector(arguments[0]) !== null", row))
