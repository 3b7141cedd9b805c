"""/docs and /problems in a real browser: nothing from elsewhere, under a policy that forbids it."""

import pytest

from tests.browser.axe import accessibility
from tests.browser.chromium import Browser
from tests.browser.sales import Sales

pytestmark = pytest.mark.xdist_group("browser")


def test_the_document_is_shown_and_programs_can_be_copied(browser: Browser, sales: Sales) -> None:
    """Swagger UI lists the calls; a button copies what it stands beside."""
    campaign_id = sales.publish()
    browser.wear(width=1024, height=640)
    browser.open(f"{sales.url}/docs?campaign={campaign_id}")
    browser.sees("#swagger-ui", "/v1/campaigns/{campaign_id}/grabs")
    assert f"CAMPAIGN={campaign_id}" in browser.text("#snippet-1")
    assert browser.text("#snippet-1").count(sales.url) == 1
    browser.click("button[data-copies=snippet-1]")
    browser.sees("button[data-copies=snippet-1]", "Copied")
    browser.shoot("docs", keep=True, whole=False)


def test_a_call_is_tried_out_from_the_page(browser: Browser, sales: Sales) -> None:
    """The policy lets the page ask its own origin; the answer is shown."""
    sales.publish()
    browser.open(f"{sales.url}/docs")
    browser.sees("#swagger-ui", "/livez")
    browser.click("[id$='get_livez'] .opblock-summary-control")
    browser.click("[id$='get_livez'] .try-out__btn")
    browser.click("[id$='get_livez'] .execute")
    browser.sees("[id$='get_livez'] .live-responses-table", "200")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_are_for_everybody(scheme: str, browser: Browser, sales: Sales) -> None:
    """No violation that axe finds in what is ours, no sideways scrolling at 320 px."""
    for path in ("/problems", "/problems/not-started", "/docs"):
        browser.wear(scheme=scheme, width=320)
        browser.open(sales.url + path)
        if path == "/docs":
            browser.sees("#swagger-ui", "/livez")
            # Swagger UI's own markup is not ours to mend
            browser.run("document.getElementById('swagger-ui').remove()")
        assert not browser.scrolls_sideways
        assert accessibility(browser) == []


def test_without_javascript_everything_can_be_read(browser: Browser, sales: Sales) -> None:
    """The programs, the way to the document, and the choice of a campaign."""
    campaign_id = sales.publish()
    browser.wear(script=False)
    browser.open(f"{sales.url}/docs?campaign={campaign_id}")
    assert f"CAMPAIGN={campaign_id}" in browser.text("#snippet-1")
    assert campaign_id in browser.text("form")
    assert browser.text("button.copy") == ""
