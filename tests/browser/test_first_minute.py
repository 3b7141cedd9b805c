"""A newcomer with the whole stack: from the list to a coupon that the ledger has."""

from pathlib import Path

import pytest

from tests.browser.chromium import Browser
from tests.e2e.running import Stack, simple

pytestmark = pytest.mark.xdist_group("browser")


def test_from_the_list_to_a_recorded_coupon(
    browser: Browser, running_stack: Stack, tmp_path: Path
) -> None:
    """One click to the campaign, one at its opening; relay, broker and worker do the rest."""
    file = tmp_path / "newcomer.toml"
    file.write_text(simple("newcomer", opens="+5s"))
    made = running_stack.command("campaign", "create", str(file), "--publish")
    assert made.returncode == 0, made.stderr
    browser.open(f"{running_stack.gateway_url}/c/newcomer")
    browser.sees("#label", "Opens in")
    browser.click(".brand")
    browser.click('[data-campaign="newcomer"] a')
    browser.find('#grab[aria-disabled="false"]')
    browser.click("#grab")
    browser.sees('[data-fact="coupon.state"]', "recorded for good")
    assert browser.text(".code") == "newcomer-1"
