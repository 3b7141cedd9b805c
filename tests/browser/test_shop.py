"""A shop's own buyer: the page hears from the shop who he is, as in production."""

import time
from collections.abc import Iterator

import pytest

from tests.browser.axe import accessibility
from tests.browser.buyer import AN_HOUR_AHEAD, YOURS, armed
from tests.browser.chromium import Browser
from tests.browser.sales import Sales, selling
from tests.e2e.running import until
from tests.gateway.asking import identity

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture(scope="module")
def shop(sales: Sales) -> Iterator[Sales]:
    """A gateway as in production; the pages of the other gateway stand in for the shop's."""
    captcha = {"CAPTCHA_VERIFY_URL": "http://127.0.0.1:1/", "CAPTCHA_SECRET": "s"}
    with selling(DEMO="0", CORS_ORIGINS=sales.url, CAPTCHA_SITE_KEY="site-1", **captcha) as found:
        yield found


def token_of(user: str, **changes: int) -> str:
    return identity(user, **changes)["authorization"].removeprefix("Bearer ")


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


def test_whether_a_token_is_over_the_gateway_judges(browser: Browser, shop: Sales) -> None:
    """On a device that is an hour ahead a token serves; one that has ended takes neither the coupon
    nor the pass away from its page; without a pass it is: sign in."""
    campaign_id = shop.publish(per_user=5)
    browser.before_it(AN_HOUR_AHEAD)
    browser.open(f"{shop.page(campaign_id)}#identity={token_of('shop-di')}")
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)
    over = token_of("shop-di", exp=int(time.time()) - 7200)
    browser.run("sessionStorage.setItem('flashgrab.identity', arguments[0])", over)
    browser.reload()
    browser.sees("#title", YOURS)
    assert browser.text("#who") == "You are shop-di"
    browser.click("#grab")  # says "Grab another one"
    browser.sees("#title", "They are yours")
    browser.open(f"{shop.page(shop.publish())}#identity={over}")
    browser.sees("#title", "Sign in at the shop")


def test_a_newer_token_is_not_thrown_away_with_an_old_one(browser: Browser, shop: Sales) -> None:
    """The shop's page hands a new one over while the pass is asked for with one that is over."""
    browser.open(shop.origins[0] + "/")
    browser.run("window.page = window.open('about:blank')")
    before = to_the_opened(browser)
    over = token_of("shop-ed", exp=int(time.time()) - 60)
    browser.before_it(
        "const real = window.fetch; let first = true;"
        "const refused = new Promise((go) => { window.refuse = go; });"
        "window.fetch = async (to, how) => {"
        "  if (!first || !to.endsWith('/passes')) return real(to, how);"
        "  first = false;"
        "  await refused;"
        "  const answer = await real(to, how);"
        "  window.status = 'refused';"
        "  return answer;"
        "}"
    )
    campaign_id = shop.publish()
    browser.run("location.href = arguments[0]", f"{shop.page(campaign_id)}#identity={over}")
    browser.sees("#who", "shop-ed")
    mine = browser.driver.current_window_handle
    browser.go_back_to(before)
    browser.run(
        "const [identity] = arguments; page.postMessage({flashgrab: {identity}}, '*')",
        token_of("shop-flo"),
    )
    browser.go_back_to(mine)
    browser.sees("#who", "shop-flo")
    browser.run("window.refuse()")
    until("the old one is", lambda: browser.run("return window.status") == "refused")
    browser.click("#grab")
    browser.sees("#title", YOURS)
    assert browser.text("#who") == "You are shop-flo"


COUNT = "window.heard = 0; window.addEventListener('message', () => { window.heard++; })"


def test_only_listed_pages_are_believed(browser: Browser, shop: Sales) -> None:
    """A message of a page that did not open this one, or did and is of another origin, changes
    nothing."""
    address = shop.page(shop.publish())
    browser.open(address)
    browser.sees("#title", "Sign in at the shop")
    browser.run(COUNT)
    browser.run("postMessage({flashgrab: {identity: arguments[0]}}, '*')", token_of("thief"))
    until("it has come", lambda: browser.run("return window.heard") > 0)
    assert browser.text("#who") == "Not signed in"
    browser.open(shop.gateway.metrics_url)  # an origin that nobody lists
    browser.run(
        "const [url, identity] = arguments, page = window.open(url);"
        "setInterval(() => page.postMessage({flashgrab: {identity}}, '*'), 50)",
        address,
        token_of("thief"),
    )
    to_the_opened(browser)
    browser.sees("#title", "Sign in at the shop")
    browser.run(COUNT)
    until("they have come", lambda: browser.run("return window.heard") > 2)
    assert browser.text("#who") == "Not signed in"


def to_the_opened(browser: Browser) -> str:
    """Go to the tab that a page has opened; gives the handle of the one before."""
    before = browser.driver.current_window_handle
    until("it opens", lambda: len(browser.driver.window_handles) == 2)
    browser.go_back_to(next(h for h in browser.driver.window_handles if h != before))
    return before


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
    to_the_opened(browser)
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
