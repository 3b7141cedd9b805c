"""A newcomer with the whole stack: from the list to a coupon that the ledger has."""

import time
from pathlib import Path

import pytest

from tests.browser import chromium
from tests.browser.chromium import Browser
from tests.conftest import require
from tests.e2e.running import Stack, simple, stack, until


@pytest.mark.xdist_group("stack")
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


@pytest.mark.xdist_group("browser")
def test_the_first_minute(browser: Browser, data: Path) -> None:
    """With nothing but what `up --demo` prints: the operator's console, signed in, counts down;
    one press in the buyer's page is a coupon; then the console shows one less and books that
    balance. All within a minute of `ready`."""
    require(chromium.missing())
    with stack(data, "--demo") as running:
        began = time.monotonic()
        words = " ".join(running.output).split()
        page = next(word for word in words if "/c/demo-" in word)
        ops = next(word for word in words if "/ops#" in word)
        campaign_id = page.rpartition("/")[2]
        browser.open(ops)
        browser.sees("#clock", "T\N{MINUS SIGN}")
        browser.sees("#campaign", campaign_id)
        browser.sees("#books-light", "Balance")
        quota = _number(browser.text("#left"))
        console = browser.second_tab()
        browser.open(page)
        browser.sees("#label", "Opens in")
        until("it opens", lambda: browser.text('#grab[aria-disabled="false"]'), 40)
        browser.click("#grab")
        browser.sees('[data-fact="coupon.state"]', "recorded for good")
        assert browser.text(".code") == f"{campaign_id}-1"
        browser.go_back_to(console)
        until("one less", lambda: _number(browser.text("#left")) == quota - 1)
        browser.sees("#books-light", "Balance")
        assert browser.text("#state") == "OPEN"
        assert time.monotonic() - began < 60
        browser.assert_quiet()
        browser.fresh()  # the console would ask on while the stack stops


def _number(shown: str) -> int:
    return int(shown.replace(",", ""))
