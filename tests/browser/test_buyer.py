"""A buyer in a real browser against a real gateway."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.browser.axe import accessibility
from tests.browser.buyer import AN_HOUR_AHEAD, HURRY, YOURS, armed, is_listed
from tests.browser.chromium import Browser
from tests.browser.sales import Sales
from tests.e2e.running import until
from tests.gateway.serving import HOUR_MS

pytestmark = pytest.mark.xdist_group("browser")

SOON_MS = 4000


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
    browser.before_it(HURRY)
    browser.open(sales.page(campaign_id))
    armed(browser)
    with not_looking(browser, campaign_id):
        sales.turn(campaign_id, "PAUSED")
        browser.click("#grab")
        browser.sees("#retry", "Asking again in")
        browser.sees("#title", "Paused")
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
    until("it is listed", lambda: is_listed(browser, sales, row))
    opens_at = sales.state(campaign_id)["rounds"][0]["opens_at"]
    shown = browser.run(
        "const as = {dateStyle: 'medium', timeStyle: 'medium'};"
        "return new Intl.DateTimeFormat('en', as).format(Date.parse(arguments[0]))",
        opens_at,
    )
    browser.sees(f"{row} .status", f"Opens {shown}")
    sales.turn(campaign_id, "PAUSED")
    browser.sees(f"{row} .status", "Paused")


def test_a_challenge_is_solved_in_the_page(browser: Browser, sales: Sales) -> None:
    """Work before the pass, shown while it lasts, and then the coupon."""
    challenge = {"kind": "work", "ask": "always", "bits": 15}
    campaign_id = sales.publish(challenge=challenge)
    browser.open(sales.page(campaign_id))
    armed(browser)
    browser.click("#grab")
    browser.sees("#title", YOURS)
