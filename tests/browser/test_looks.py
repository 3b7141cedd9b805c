"""How the buyer's page looks, sounds and reads: sizes, schemes, languages, keys, no JavaScript."""

import re
from collections.abc import Iterator

import pytest

from tests.browser.axe import accessibility
from tests.browser.buyer import YOURS, armed, is_listed
from tests.browser.chromium import Browser
from tests.browser.sales import Sales, selling
from tests.e2e.running import until
from tests.gateway.serving import HOUR_MS

pytestmark = pytest.mark.xdist_group("browser")

SOON_MS = 4000


@pytest.fixture(scope="module")
def sales() -> Iterator[Sales]:
    """A gateway of its own: the first page lists nothing else."""
    with selling() as found:
        yield found


SIZES = [(1280, 800), (768, 900), (320, 640)]
KEPT = {
    *("waiting-1280-light", "open-768-dark", "coupon-1280-light", "coupon-320-dark"),
    *("list-1280-light", "sold-out-768-dark", "paused-320-light"),
}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(browser: Browser, sales: Sales, scheme: str) -> None:
    """Every view at every width, in both schemes: nothing scrolls sideways, axe finds nothing."""
    soon, open_ = sales.publish(opens_ms=HOUR_MS // 9), sales.publish(quota=500, name="Tea for two")
    rounds = [(-2000, HOUR_MS, 1), (2 * HOUR_MS, 3 * HOUR_MS, 5)]
    gone = sales.publish(rounds=rounds, name="A lamp, twice a day")
    assert sales.gateway.grab(gone, "quicker").status_code == 201
    paused = sales.publish(opens_ms=HOUR_MS // 3, name="Books at half their price")
    sales.turn(paused, "PAUSED")
    browser.wear(scheme=scheme)
    until("all are listed", lambda: is_listed(browser, sales, f'[data-campaign="{paused}"]'))
    browser.sees("[data-status]")
    look(browser, "list", scheme)
    browser.open(sales.page(soon))
    browser.sees("#stock")
    look(browser, "waiting", scheme)
    browser.open(sales.page(gone))
    browser.sees("#text", "after opening")
    look(browser, "sold-out", scheme)
    browser.open(sales.page(paused))
    browser.sees("#title", "Paused")
    look(browser, "paused", scheme)
    browser.open(sales.page(open_))
    armed(browser)
    look(browser, "open", scheme)
    browser.click("#grab")
    browser.sees("#title", YOURS)
    look(browser, "coupon", scheme)


def look(browser: Browser, view: str, scheme: str) -> None:
    for width, height in SIZES:
        browser.wear(scheme=scheme, width=width, height=height)
        name = f"{view}-{width}-{scheme}"
        assert not browser.scrolls_sideways, name
        browser.shoot(f"buyer-{name}", keep=name in KEPT)
    assert accessibility(browser) == []


# -- in their own way ------------------------------------------------------------------------------


def test_in_chinese(browser: Browser, sales: Sales) -> None:
    """By the browser's language, and by the switch, which is remembered."""
    campaign_id = sales.publish(name="春季大促")
    browser.wear(lang="zh-CN")
    browser.open(sales.page(campaign_id))
    browser.sees("#grab", "立即领券")
    assert browser.run("return document.documentElement.lang") == "zh"
    browser.click('.languages a[lang="en"]')
    browser.sees("#grab", "Grab a coupon")
    browser.reload()
    armed(browser)
    browser.click('.languages a[lang="zh"]')
    browser.click("#grab")
    browser.sees("#title", "领到了")
    browser.wear(lang="zh-CN", width=320, height=640)
    browser.shoot("buyer-coupon-zh", keep=True)
    assert accessibility(browser) == []


def test_by_keyboard_alone(browser: Browser, sales: Sales) -> None:
    """The focus waits on the button, Enter works from the opening on, and the focus goes on to
    the coupon; what happens is said to those who hear the page."""
    campaign_id = sales.publish(opens_ms=SOON_MS)
    browser.open(sales.page(campaign_id))
    browser.sees("#label", "Opens in")
    for _ in range(10):
        browser.press("TAB")
        if browser.run("return document.activeElement.id") == "grab":
            break
    browser.press("ENTER")
    armed(browser)
    until("it is said", lambda: "Open now" in live(browser))
    browser.press("ENTER")
    browser.sees("#title", YOURS)
    until("it is said", lambda: YOURS in live(browser))
    until("focus", lambda: browser.run("return document.activeElement.id") == "title")


def test_how_long_it_takes_is_said_as_it_is(browser: Browser, sales: Sales) -> None:
    """Who comes half a minute before the opening hears of half a minute, not of the minute that
    others heard of."""
    browser.open(sales.page(sales.publish(opens_ms=30_000)))
    said = until("it is said", lambda: "Opens in" in live(browser) and live(browser))
    seconds = re.fullmatch(r"Opens in (\d+) s\.", said)
    assert seconds, said
    assert 15 <= int(seconds[1]) <= 30


def live(browser: Browser) -> str:
    return str(browser.find("#live").get_attribute("textContent"))


def test_without_javascript(browser: Browser, sales: Sales) -> None:
    """Two forms, one coupon; pressing again gives the same one."""
    campaign_id = sales.publish(per_user=5)
    browser.wear(script=False)
    browser.open(sales.page(campaign_id))
    browser.find("input[name=user]").send_keys("plain-ann")
    browser.click("form button")
    browser.sees("#text", "Press the button")
    browser.click("form button")
    browser.sees("#title", YOURS)
    assert browser.text("#code") == f"{campaign_id}-1"
    browser.reload()
    browser.sees("#title", YOURS)
    assert sales.granted(campaign_id) == 1
