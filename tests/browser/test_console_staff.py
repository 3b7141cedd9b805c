"""Who signs in to the operator's console, and what he can do there, in a real browser."""

import pytest

from tests.browser.axe import accessibility
from tests.browser.chromium import Browser
from tests.browser.console import choose, link, published, signed_in, token
from tests.e2e.running import Stack, until

pytestmark = pytest.mark.xdist_group("browser")


def test_signing_in_by_a_link_that_is_good_once(browser: Browser, sold: Stack) -> None:
    """The link leaves the address bar, a reload stays signed in, signing out ends it, and the link
    is used up; who is not signed in is told how to be."""
    once = link(sold)
    browser.open(once)
    assert browser.sees("#who", "root") == "root (admin)"
    assert "#" not in browser.driver.current_url
    browser.sees("#books-light", "Balance", 30)
    browser.sees("#parts-light", "All up")
    browser.reload()
    browser.sees("#who", "root (admin)")
    browser.click("#out")
    browser.sees("#signin", "flashgrab token sign-in")
    assert accessibility(browser) == []
    browser.shoot("console-sign-in", keep=True, whole=False, kind="webp")
    browser.expect("401")
    browser.open(once)
    browser.sees("#who", "not signed in")


def test_a_link_outlives_a_centre_that_is_away(browser: Browser, sold: Stack) -> None:
    """The first answer is 503: the page keeps the link in memory and signs in when it can."""
    browser.expect("503")
    away = browser.cdp(
        "Page.addScriptToEvaluateOnNewDocument",
        source="const real = window.fetch; let away = 2;"
        "window.fetch = async (path, ...more) => (path === '/ops/session' && away-- > 0"
        " ? new Response('<html>', {status: 503}) : real(path, ...more));",
    )
    browser.open(link(sold))
    browser.sees("#who", "The centre does not answer")
    assert "#" not in browser.driver.current_url
    browser.sees("#who", "root (admin)")
    browser.cdp("Page.removeScriptToEvaluateOnNewDocument", identifier=away["identifier"])


def test_buttons_are_for_those_who_may(browser: Browser, sold: Stack) -> None:
    """An operator pauses, an approver restocks by typing the amount twice, a viewer and a read-only
    link have no button, and the server refuses what the page does not offer."""
    published(sold, "roles", 10)
    signed_in(browser, sold, token(sold, "operator"))
    choose(browser, "roles")
    browser.sees("#state", "OPEN")
    assert browser.text("#actions").split() == ["Pause", "Resume", "Close"]
    browser.click("#do-pause")
    assert accessibility(browser) == []
    browser.click("#d-yes")
    browser.sees("#d-said", "Done")
    browser.click("#d-no")
    browser.sees("#state", "PAUSED")
    browser.sees("#notes", "pause by operator")
    assert _written(browser, "/v1/campaigns/roles/restock", {"round": 1, "add": 5}) == 403
    browser.click("#out")
    browser.sees("#signin", "Sign in")

    signed_in(browser, sold, token(sold, "approver"))
    choose(browser, "roles")
    browser.click("#do-restock")
    browser.find("#d-add").send_keys("15")
    browser.find("#d-again").send_keys("16")
    assert not browser.find("#d-yes").is_enabled()
    browser.press("BACKSPACE", "5")
    browser.click("#d-yes")
    browser.sees("#d-said", "Done")
    browser.press("ESCAPE")
    browser.sees("#left-small", "of 25")
    browser.click("#share")
    view = until("a link", lambda: browser.run("return document.querySelector('#d-link')?.value"))
    assert accessibility(browser) == []
    browser.press("ESCAPE")
    browser.click("#out")
    browser.sees("#signin", "Sign in")

    signed_in(browser, sold, token(sold, "viewer"))
    assert browser.text("#actions") == ""
    assert _written(browser, "/v1/campaigns/roles/resume", {}) == 403
    browser.click("#out")
    browser.sees("#signin", "Sign in")
    browser.open(view)
    browser.sees("#who", "read-only link")
    browser.sees("#books-light", "Balance", 30)
    assert browser.text("#actions") == ""
    assert not browser.text("#share")


def _written(browser: Browser, path: str, body: dict[str, int]) -> int:
    """The status of a write with the page's own session and token."""
    return int(
        browser.driver.execute_async_script(
            "const [path, body, done] = arguments;"
            "fetch('/ops/session').then((a) => a.json()).then((who) => fetch(path, {method: 'POST',"
            " headers: {'Content-Type': 'application/json', 'X-CSRF-Token': who.csrf,"
            " 'Idempotency-Key': 'k' + Date.now()}, body: JSON.stringify(body)}))"
            ".then((a) => done(a.status))",
            path,
            body,
        )
    )


def test_pressed_again_it_is_done_once(browser: Browser, sold: Stack) -> None:
    """The answer to a restock is lost and 503 comes in its place: whoever presses again restocks
    once. A dialog of its own, or another number, is another restock."""
    published(sold, "twice", 10)
    signed_in(browser, sold)
    choose(browser, "twice")
    browser.sees("#left-small", "of 10")
    browser.run(
        "const real = window.fetch; window.keys = []; window.lost = 4;"
        "window.fetch = async (path, options) => {"
        "  const answer = await real(path, options);"
        "  if (!String(path).endsWith('/restock')) return answer;"
        "  window.keys.push(options.headers['Idempotency-Key']);"
        "  if (window.lost-- <= 0) return answer;"
        "  return new Response(JSON.stringify({detail: 'lost'}), {status: 503}); };"
    )

    def restock(count: str) -> None:
        for field in ("#d-add", "#d-again"):
            browser.find(field).clear()
            browser.find(field).send_keys(count)
        browser.click("#d-yes")

    browser.click("#do-restock")
    restock("5")
    browser.sees("#d-said", "press again here")  # after three more tries of its own
    browser.sees("#left-small", "of 15")
    browser.click("#d-yes")
    browser.sees("#d-said", "Done")
    browser.press("ESCAPE")
    keys = browser.run("return window.keys")
    assert (len(keys), len(set(keys))) == (5, 1)
    browser.click("#do-restock")
    browser.run("window.lost = 4")
    restock("5")
    browser.sees("#d-said", "press again here")
    restock("7")
    browser.sees("#d-said", "Done")
    browser.press("ESCAPE")
    browser.sees("#left-small", "of 27")
    state = sold.get("/v1/campaigns/twice")
    assert state["rounds"][0]["left"] == 27
    assert len(set(browser.run("return window.keys"))) == 3
