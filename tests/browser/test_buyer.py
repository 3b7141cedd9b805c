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


def look_again(browser: Browser) -> None:
    """As when the page is turned to."""
    browser.run("document.dispatchEvent(new Event('visibilitychange'))")


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
        key = key_of(browser)
        browser.reload()
    finally:
        sales.server.thaw()
    browser.sees("#title", YOURS)
    assert sales.request_ids(campaign_id) == [key]


def test_two_tabs_get_one_coupon(browser: Browser, sales: Sales) -> None:
    """Both press, a third that is opened meanwhile asks by itself; all show the same one."""
    campaign_id = sales.publish(per_user=5)
    browser.open(sales.page(campaign_id))
    armed(browser)
    first = browser.second_tab()
    second = browser.driver.current_window_handle
    browser.open(sales.page(campaign_id))
    armed(browser)
    sales.server.freeze()
    try:
        browser.click("#grab")
        browser.go_back_to(first)
        browser.click("#grab")
        browser.find("#grab[data-busy]")
        browser.second_tab()
        browser.open(sales.page(campaign_id))
        browser.find("#grab[data-busy]")
    finally:
        sales.server.thaw()
    for tab in (None, first, second):
        if tab:
            browser.go_back_to(tab)
        browser.sees("#title", YOURS)
        assert browser.text(".code") == f"{campaign_id}-1"
    assert sales.granted(campaign_id) == 1


def test_the_key_of_a_press_outlives_a_coupon_that_is_given_back(
    browser: Browser, sales: Sales
) -> None:
    """While the press for another one has no answer, the page hears that the first one went back:
    what the press asks with stays, for the reload that asks again."""
    campaign_id = sales.publish(per_user=5)
    browser.open(sales.page(campaign_id))
    armed(browser)
    browser.run(
        "const real = window.fetch; let held = true, pressed = 0;"
        "window.giveBack = () => { held = false; };"
        "window.fetch = async (to, how) => {"
        "  if (to.endsWith('/grabs') && pressed++) return Promise.reject();"
        "  const answer = await real(to, how);"
        "  if (!to.startsWith('/v1/grabs/')) return answer;"
        "  return Response.json({...await answer.json(), state: held ? 'GRANTED' : 'RETURNED'});"
        "}"
    )
    browser.click("#grab")
    browser.sees("#grab", "Grab another one")
    browser.click("#grab")
    browser.sees("#retry", "Asking again in")
    key = key_of(browser)
    browser.run("window.giveBack()")
    until("the page knows", lambda: "RETURNED" in coupons_of(browser))
    assert key_of(browser) == key
    browser.reload()
    until("it has asked again", lambda: sales.granted(campaign_id) == 2)
    until("with this key", lambda: key in sales.request_ids(campaign_id))


def key_of(browser: Browser) -> str:
    return kept(browser, "key")


def coupons_of(browser: Browser) -> str:
    return kept(browser, "coupons")


def kept(browser: Browser, kind: str) -> str:
    """What the browser keeps of this kind, "" for nothing."""
    return str(
        browser.run(
            "return Object.entries(localStorage)"
            ".filter(([name]) => name.startsWith(`flashgrab.${arguments[0]}.`))"
            ".map(([, text]) => text).join()",
            kind,
        )
    )


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
    sales.restock(campaign_id, 1)
    until("the page has noticed", lambda: is_armed_now(browser))
    browser.click("#grab")
    browser.sees("#title", YOURS)


def is_armed_now(browser: Browser) -> bool:
    """Whether a look finds stock."""
    look_again(browser)
    return browser.find("#grab").get_attribute("aria-disabled") == "false"


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


def test_what_has_no_answer_at_first_is_asked_again(browser: Browser, sales: Sales) -> None:
    """The page's words, the demo's identity, and a campaign that a gateway does not know yet:
    each fails, and nothing stays as it was then."""
    campaign_id = sales.publish()
    browser.before_it(HURRY)
    browser.before_it(
        "const real = window.fetch;"
        f"const failures = {{'en.json': 1, 'identity': 1, '{campaign_id}': 6}};"
        "window.fetch = (to, how) => {"
        "  const what = String(to).split('/').at(-1);"
        "  if (!(failures[what]-- > 0)) return real(to, how);"
        "  if (what === 'en.json') return new Promise((_, stopped) => {"
        "    how.signal.addEventListener('abort', stopped); });"
        "  const [status, code] = what === 'identity'"
        "    ? [503, 'BUSY'] : [404, 'CAMPAIGN_NOT_FOUND'];"
        "  return Promise.resolve(Response.json({code, retry_after_ms: 100}, {status}));"
        "}"
    )
    browser.open(sales.page(campaign_id))
    browser.sees("#title", "No such campaign")
    armed(browser)
    browser.sees("#who", "demo-")


def test_the_list_goes_on_looking(browser: Browser, sales: Sales) -> None:
    """By the server's time, whatever the device's clock shows: the next round is the first one,
    which would be over; and what changes is shown without a reload."""
    half_ms = HOUR_MS // 2
    rounds = [(half_ms - 60_000, half_ms, 5), (2 * HOUR_MS, 3 * HOUR_MS, 5)]
    campaign_id = sales.publish(rounds=rounds)
    browser.before_it(AN_HOUR_AHEAD)
    browser.before_it(HURRY)
    row = f'[data-campaign="{campaign_id}"]'
    until("it is listed", lambda: row_is_there(browser, sales, row))
    opens_at = sales.state(campaign_id)["rounds"][0]["opens_at"]
    shown = browser.run(
        "const as = {dateStyle: 'medium', timeStyle: 'medium'};"
        "return new Intl.DateTimeFormat('en', as).format(Date.parse(arguments[0]))",
        opens_at,
    )
    browser.sees(f"{row} .status", f"Opens {shown}")
    sales.turn(campaign_id, "PAUSED")
    browser.sees(f"{row} .status", "Paused")


def row_is_there(browser: Browser, sales: Sales, row: str) -> bool:
    """The list is made once a second, and kept for ten."""
    browser.open(f"{sales.url}/?{time.monotonic_ns()}")
    return bool(browser.run("return document.querySelector(arguments[0]) !== null", row))


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


# -- a shop's own buyer ----------------------------------------------------------------------------


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
