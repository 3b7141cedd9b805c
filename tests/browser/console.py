"""What tests of the operator's console do besides: sales, links and tokens, by HTTP."""

import os
from typing import Any

import httpx2

from tests.browser.chromium import Browser
from tests.e2e.running import Stack, until


def told(running: Stack, path: str, body: Any = None, of: str = "") -> dict[str, Any]:
    """The answer to a write at the centre, by the root or the holder of a token."""
    shown = of or running.secrets()["FLASHGRAB_ADMIN_TOKEN"]
    headers = {"authorization": f"Bearer {shown}", "idempotency-key": os.urandom(8).hex()}
    with httpx2.Client(base_url=running.centre_url, verify=False, timeout=20) as http:
        answer = http.post(path, json=body, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def published(
    running: Stack, campaign_id: str, quota: int, *more: dict[str, Any], opens: str = "now"
) -> None:
    """A campaign that the gateway knows; `more` are its later rounds."""
    first = {"opens_at": opens, "closes_at": "+2h", "quota": quota}
    rule = {"kind": "amount_off", "amount": 3000, "threshold": 20000}
    definition = {"id": campaign_id, "name": f"Test {campaign_id}", "rule": rule}
    told(running, "/v1/campaigns", {**definition, "rounds": [first, *more]})
    told(running, f"/v1/campaigns/{campaign_id}/publish")
    until("the gateway knows it", lambda: running.get(f"/v1/campaigns/{campaign_id}") is not None)


def token(running: Stack, role: str) -> str:
    made = told(running, "/v1/tokens", {"name": role, "role": role, "valid_s": 3600})
    return str(made["token"])


def link(running: Stack, of: str = "") -> str:
    """A sign-in link of the root, or of a token."""
    return running.centre_url + str(told(running, "/v1/sign-ins", of=of)["path"])


def signed_in(browser: Browser, running: Stack, of: str = "") -> None:
    browser.open(link(running, of))
    browser.sees("#books-light", "Balance", 30)


def choose(browser: Browser, campaign_id: str) -> None:
    """Look at this campaign, once the picker has it."""
    until("it can be chosen", lambda: browser.run(
        "const s = document.getElementById('campaign');"
        "if (![...s.options].some((o) => o.value === arguments[0])) return false;"
        "s.value = arguments[0]; s.dispatchEvent(new Event('change')); return true;",
        campaign_id,
    ))  # fmt: skip
