"""A buyer in a real browser against a real gateway."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.axe import accessibility
from tests.browser.chromium import Browser
from tests.browser.sales import Sales, selling
from tests.e2e.running import until
from tests.gateway.asking import identity
from tests.gateway.serving import HOUR_MS

pytestmark = pytest.mark.xdist_group("browser")

SOON_MS = 4000
YOURS = "It is yours"


def armed(browser: Browser) -> None:
    """Wait until the button can be pressed."""
    browser.find('#grab[aria-disabled="false"]')


@contextmanager
def not_looking(browser: Browser, campaign_id: str) -> Iterator[None]:
    """The page hears nothing of the public state, which would take the button away."""
    browser.run(
        "const id = arguments[0], real = window.realFetch = window.fetch;"
        "window.fetch = (to, how) => to.endsWith(id) ? Promise.reject() : real(to, how)",
        campaign_id,
    )
    yield
    browser.run("window.fetch = window.realFetch")


def state_is(browser: Browser, part: str) -> None:
    browser.sees('[data-fact="coupon.state"]', part)


# -- getting one -----------------------------------------------------------------------------------


def test_a_press_at_the_opening_gets_a_coupon(browser: Browser, sales: Sales) -> None:
    """Countdown, armed at the opening and not before, coupon with code and QR; GRANTED becomes
    PERSISTED when the ledger has it; a reload shows it again without asking for another."""
    campaign_id = sales.publish(opens_ms=SOON_MS)
    browser.open(sales.page(campaign_id))
    browser.sees("#label", "Opens in")
    browser.sees("#stock", "100 of 100 left")
    browser.click("#grab")  # too early: nothing happens
    browser.sees("#offset", "Clock offset")
    assert accessibility(browser) == []
    assert sales.granted(campaign_id) == 0
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)
    assert browser.text(".code") == f"{campaign_id}-1"
    assert browser.find(".qr").is_displayed()
    state_is(browser, "Being recorded")
    assert accessibility(browser) == []
    sales.settle(campaign_id)
    state_is(browser, "recorded for good")
    browser.reload()
    browser.sees("#title", YOURS)
    assert sales.granted(campaign_id) == 1


def test_a_double_click_gets_one_coupon(browser: Browser, sales: Sales) -> None:
    """Where each may have five: the second click asks for nothing more."""
    campaign_id = sales.publish(per_user=5)
    browser.open(sales.page(campaign_id))
    armed(browser)
    browser.run("const b = document.getElementById('grab'); b.click(); b.click(); b.click()")
    browser.sees("#title", YOURS)
    assert sales.granted(campaign_id) == 1
    browser.click("#grab")  # says "Grab another one"
    browser.sees("#title", "They are yours")
    assert sales.granted(campaign_id) == 2
    assert len(set(sales.request_ids(campaign_id))) == 2


def test_a_reload_in_mid_flight_gets_the_same_coupon(browser: Browser, sales: Sales) -> None:
    """Redis stands still: the press has no answer; the page that comes back asks again by itself,
    with the same key."""
    campaign_id = sales.publish(per_user=5)
    browser.open(sales.page(campaign_id))
    armed(browser)
    sales.server.freeze()
    try:
        browser.click("#grab")
        browser.sees("#retry", "Asking again in")  # 503 after the deadline
        key = browser.run(
            "return Object.entries(localStorage).find(([k]) => k.startsWith('flashgrab.key.'))[1]"
        )
        browser.reload()
    finally:
        sales.server.thaw()
    browser.sees("#title", YOURS)
    assert sales.request_ids(campaign_id) == [key]


def test_two_tabs_get_one_coupon(browser: Browser, sales: Sales) -> None:
    """Both press; both show the same one."""
    campaign_id = sales.publish(per_user=5)
    browser.open(sales.page(campaign_id))
    armed(browser)
    sales.server.freeze()
    try:
        browser.click("#grab")
        first = browser.second_tab()
        browser.open(sales.page(campaign_id))
    finally:
        sales.server.thaw()
    browser.sees("#title", YOURS)
    code = browser.text(".code")
    browser.go_back_to(first)
    browser.sees("#title", YOURS)
    assert browser.text(".code") == code
    assert sales.granted(campaign_id) == 1


# -- not getting one -------------------------------------------------------------------------------


def test_sold_out_says_when(browser: Browser, sales: Sales) -> None:
    """The last coupon goes to another; the page says how long it took, and when the next round is;
    a coupon that comes back brings the button back."""
    rounds = [(-2000, HOUR_MS, 1), (2 * HOUR_MS, 3 * HOUR_MS, 5)]
    campaign_id = sales.publish(rounds=rounds)
    browser.open(sales.page(campaign_id))
    browser.sees("#round", "Round 1 of 2")
    armed(browser)
    with not_looking(browser, campaign_id):
        assert sales.gateway.grab(campaign_id, "quicker").status_code == 201
        browser.click("#grab")
        browser.sees("#title", "Sold out")
    said = browser.sees("#text", "after opening")
    assert re.search(r"Sold out \d+(\.\d)? s after opening", said)
    browser.sees("#label", "Next round opens in")
    assert accessibility(browser) == []


def test_paused_during_the_countdown(browser: Browser, sales: Sales) -> None:
    """The page notices, does not arm, and goes on when the shop does."""
    campaign_id = sales.publish(opens_ms=6000)
    browser.open(sales.page(campaign_id))
    browser.sees("#label", "Opens in")
    sales.turn(campaign_id, "PAUSED")
    browser.sees("#title", "Paused")
    assert browser.find("#grab").get_attribute("aria-disabled") == "true"
    sales.turn(campaign_id, "PUBLISHED")
    armed(browser)


def test_a_pause_at_the_press_is_waited_for(browser: Browser, sales: Sales) -> None:
    """Retry-After is counted down, and the same key asks again until it has its coupon."""
    campaign_id = sales.publish()
    browser.open(sales.page(campaign_id))
    armed(browser)
    with not_looking(browser, campaign_id):
        sales.turn(campaign_id, "PAUSED")
        browser.click("#grab")
        browser.sees("#retry", "Asking again in")
        assert browser.text("#title") == "Paused"
    sales.turn(campaign_id, "PUBLISHED")
    browser.sees("#title", YOURS)
    assert sales.granted(campaign_id) == 1


def test_who_has_one_already_is_shown_it(browser: Browser, sales: Sales) -> None:
    """USER_LIMIT names his grabs; closed and ended campaigns, and unknown ones, say so."""
    campaign_id = sales.publish()
    browser.open(sales.page(campaign_id))
    user = browser.sees("#who", "demo-").removeprefix("You are ")
    assert sales.gateway.grab(campaign_id, user).status_code == 201
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)
    assert browser.text(".code") == f"{campaign_id}-1"
    over = sales.publish(rounds=[(-5000, -1000, 1)])
    browser.open(sales.page(over))
    browser.sees("#title", "It is over")
    sales.turn(campaign_id := sales.publish(), "OFFLINE")
    browser.open(sales.page(campaign_id))
    browser.sees("#title", "Closed")
    browser.expect("404")
    browser.open(sales.page("no-such"))
    browser.sees("#title", "No such campaign")
    assert accessibility(browser) == []


def test_the_audience_is_told_before_the_opening(browser: Browser, sales: Sales) -> None:
    """Without the link's claim: not for you, as soon as the pass is refused."""
    campaign_id = sales.publish(opens_ms=15_000, audience="links")
    browser.open(sales.page(campaign_id))
    browser.sees("#title", "Not for you")


def test_a_challenge_is_solved_in_the_page(browser: Browser, sales: Sales) -> None:
    """Work before the pass, shown while it lasts, and then the coupon."""
    challenge = {"kind": "work", "ask": "always", "bits": 15}
    campaign_id = sales.publish(challenge=challenge)
    browser.open(sales.page(campaign_id))
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)


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


# -- a shop's own buyer ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shop(sales: Sales) -> Iterator[Sales]:
    """A gateway as in production; the pages of the other gateway stand in for the shop's."""
    captcha = {"CAPTCHA_VERIFY_URL": "http://127.0.0.1:1/", "CAPTCHA_SECRET": "s"}
    with selling(DEMO="0", CORS_ORIGINS=sales.url, CAPTCHA_SITE_KEY="site-1", **captcha) as found:
        yield found


def token_of(user: str) -> str:
    return identity(user)["authorization"].removeprefix("Bearer ")


def test_the_shop_gives_the_identity_in_the_fragment(browser: Browser, shop: Sales) -> None:
    """It leaves the address bar at once and serves after a reload; without one: sign in."""
    campaign_id = shop.publish()
    browser.open(shop.page(campaign_id))
    browser.sees("#title", "Sign in at the shop")
    token = token_of("shop-ann")
    browser.open("about:blank")
    browser.open(f"{shop.page(campaign_id)}?lang=en#identity={token}")
    browser.sees("#who", "shop-ann")
    assert browser.driver.current_url == f"{shop.page(campaign_id)}?lang=en"
    browser.reload()
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)


def test_only_listed_pages_are_believed(browser: Browser, shop: Sales) -> None:
    """A message of another origin, or of no opener, changes nothing."""
    browser.open(shop.page(shop.publish()))
    browser.sees("#title", "Sign in at the shop")
    message = "window.postMessage({flashgrab: {identity: arguments[0]}}, '*')"
    browser.run(message, token_of("thief"))
    time.sleep(0.3)
    assert browser.text("#who") == "Not signed in"


def test_a_page_of_the_shop_hands_the_identity_over(browser: Browser, shop: Sales) -> None:
    """It opens this page, hears that it is ready, and says who the buyer is."""
    campaign_id, (origin, *_) = shop.publish(), shop.origins
    browser.open(origin + "/")
    browser.run(
        "const [url, identity] = arguments;"
        "window.addEventListener('message', ({ source, data, origin }) => {"
        "  if (data.flashgrab === 'ready') source.postMessage({ flashgrab: { identity } }, origin);"
        "});"
        "window.open(url)",
        shop.page(campaign_id),
        token_of("shop-bob"),
    )
    before = browser.driver.current_window_handle
    until("it opens", lambda: len(browser.driver.window_handles) == 2)
    browser.go_back_to(next(h for h in browser.driver.window_handles if h != before))
    browser.sees("#who", "shop-bob")
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)


def test_a_captcha_that_the_page_cannot_show_is_named(browser: Browser, shop: Sales) -> None:
    """With what the shop has to know: its site key."""
    campaign_id = shop.publish(challenge={"kind": "captcha", "ask": "always"})
    browser.open(f"{shop.page(campaign_id)}#identity={token_of('shop-cy')}")
    browser.sees("#text", "site key site-1")
    assert accessibility(browser) == []


# -- how it looks ----------------------------------------------------------------------------------

SIZES = [(1280, 800), (768, 900), (320, 640)]
KEPT = {"waiting-1280-light", "open-768-dark", "coupon-1280-light", "coupon-320-dark"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_screenshots(browser: Browser, sales: Sales, scheme: str) -> None:
    """Every view at every width, in both schemes: nothing scrolls sideways, axe finds nothing."""
    browser.wear(scheme=scheme)
    browser.open(sales.url + "/")
    browser.sees("[data-status]")
    look(browser, "list", scheme)
    browser.open(sales.page(sales.publish(opens_ms=HOUR_MS // 9)))
    browser.sees("#stock")
    look(browser, "waiting", scheme)
    browser.open(sales.page(sales.publish(quota=500)))
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
