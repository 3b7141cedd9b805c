"""Parts of the page that decide something by themselves, run in the browser where they live."""

import time
from typing import Any

import pytest
import qrcode
from qrcode.constants import ERROR_CORRECT_M
from qrcode.util import MODE_8BIT_BYTE, QRData, lost_point

from tests.browser.chromium import Browser
from tests.browser.sales import Sales

pytestmark = pytest.mark.xdist_group("browser")

BASE = "document.querySelector('link[rel=stylesheet]').href.replace('page.css', '')"


def module(browser: Browser, name: str, body: str, *arguments: Any) -> Any:
    """What `body` gives, an expression over the module `m` and the array `a`."""
    script = (
        "const a = Array.from(arguments), done = a.pop();"
        f"import({BASE} + {name!r}).then((m) => {body}).then(done, (e) => done(String(e)))"
    )
    return browser.driver.execute_async_script(script, *arguments)


@pytest.fixture
def page(browser: Browser, sales: Sales) -> Browser:
    browser.expect("404")
    browser.open(sales.page("none"))  # nothing runs there by itself
    return browser


def theirs_of(text: str, mask: int) -> list[list[int]]:
    code = qrcode.QRCode(error_correction=ERROR_CORRECT_M, border=0, mask_pattern=mask)
    code.add_data(QRData(text.encode(), mode=MODE_8BIT_BYTE))
    code.make(fit=True)
    return [[int(dark) for dark in row] for row in code.get_matrix()]


def test_qr_codes_are_those_of_the_standard(page: Browser) -> None:
    """Module for module what another implementation draws, with the mask that is easiest to
    read, in all five versions."""
    texts = ["a-1", "spring-618-17", "x" * 30 + "-123456", "y" * 43 + "-123456789", "z" * 84]
    for text in texts:
        drawn = module(page, "qr.js", "m.qr(a[0]).map((row) => row.map(Number))", text)
        theirs = [theirs_of(text, mask) for mask in range(8)]
        assert drawn in theirs, text
        assert lost_point(drawn) == min(map(lost_point, theirs)), text
    assert "too long" in module(page, "qr.js", "m.qr(a[0])", "z" * 85)


def test_the_clock_believes_the_sample_that_cannot_be_stale(page: Browser) -> None:
    """A cached answer is fast and wrong; of the fresh ones the shortest way back counts."""
    body = (
        "{const c = new m.ServerClock(); const now = c.local();"
        " for (const [sent, received, server] of a[0])"
        "   c.take(now + sent, now + received, now + server);"
        " return [Math.round(c.now() - c.local()), c.difference.error]}"
    )
    # The server is 5,000 ms ahead. Sent, received, what the answer said.
    slow, fast, cached = [0, 400, 5350], [500, 520, 5510], [600, 602, 4700]
    assert module(page, "clock.js", body, [slow]) == [5150, 200]
    assert module(page, "clock.js", body, [slow, fast, cached]) == [5000, 10]


def test_what_cannot_be_kept_is_remembered(page: Browser) -> None:
    """A full or forbidden storage: what was set is what is got, until it can be kept again; then
    what another tab wrote counts."""
    body = (
        "{const real = Storage.prototype.setItem, got = [];"
        " m.shared.set('x', 'old');"
        " Storage.prototype.setItem = () => { throw new Error('full'); };"
        " m.shared.set('x', 'new'); m.shared.set('y', 'first');"
        " got.push(m.shared.get('x'), m.shared.get('y'), m.shared.get('z'));"
        " m.shared.set('x', null); got.push(m.shared.get('x'));"
        " m.shared.set('x', 'again'); Storage.prototype.setItem = real;"
        " m.shared.set('x', 'kept'); localStorage.setItem('flashgrab.x', 'theirs');"
        " got.push(m.shared.get('x')); return got}"
    )
    assert module(page, "store.js", body) == ["new", "first", None, None, "theirs"]


def test_a_coupon_is_followed_until_the_ledger_has_it(page: Browser) -> None:
    """However often it takes, at pauses that end at 30 s (and up to 0.8 of it more), or what the
    gateway asks for."""
    body = (
        "{const timer = window.setTimeout, waits = []; let asked = 0;"
        " window.setTimeout = (what, ms, ...more) =>"
        "   (ms === 6000 ? timer(what, ms) : (waits.push(ms), timer(what, 0, ...more)));"
        " window.fetch = async () => (++asked === 20"
        "   ? new Response('{\"retry_after_ms\": 40000}', {status: 503})"
        "   : Response.json({grab_id: 'c-1', round: 1,"
        "       state: asked < 30 ? 'GRANTED' : 'PERSISTED'}));"
        " const mine = new m.Coupons('c', 'ann');"
        " return mine.follow('c-1', () => 't', () => {}).then(() => [waits, mine.all])}"
    )
    waits, kept = module(page, "coupon.js", body)
    assert kept == [{"grab_id": "c-1", "round": 1, "state": "PERSISTED"}]
    assert len(waits) == 30
    assert 600 <= waits[0] < waits[3] < waits[6]
    assert all(30_000 <= wait <= 54_000 for wait in [*waits[10:20], *waits[21:]])
    assert waits[20] >= 40_000


def test_a_captcha_is_waited_for_with_a_bound(page: Browser) -> None:
    """No page of the shop, one that is closed, or is closed while its buyer should answer, one that
    says nothing: no answer. An answer counts once."""
    body = (
        "{const shop = (closed = false) => ({closed, postMessage() {}});"
        " const going = shop(), told = [];"
        " const there = {closed: false, postMessage: (said) => told.push(said)};"
        " return (async () => {"
        "   const none = [await m.askCaptcha('k', null), await m.askCaptcha('k', shop(true))];"
        "   setTimeout(() => { going.closed = true; }, 50);"
        "   none.push(await m.askCaptcha('k', going), await m.askCaptcha('k', shop(), 50));"
        "   m.heardCaptcha('early');"
        "   const answer = m.askCaptcha('k', there);"
        "   m.heardCaptcha('right'); m.heardCaptcha('late');"
        "   return [none, await answer, told];"
        " })()}"
    )
    none, answer, told = module(page, "captcha.js", body)
    assert none == [None] * 4
    assert answer == "right"
    assert told == [{"flashgrab": "captcha", "site_key": "k"}]


def test_calendar_files_have_the_form_of_the_standard(page: Browser) -> None:
    """Lines of at most 75 bytes that end in CRLF, with commas and line feeds escaped."""
    event = {
        "uid": "c-1", "title": "券, " * 30, "text": "one\ntwo; three", "url": "http://127.0.0.1/c/c",
        "from": 1_790_000_000_000, "to": 1_790_000_900_000, "now": 1_780_000_000_000,
    }  # fmt: skip
    text = module(page, "ics.js", "m.ics(a[0])", event)
    lines = text.split("\r\n")
    assert (lines[0], lines[-2], lines[-1]) == ("BEGIN:VCALENDAR", "END:VCALENDAR", "")
    assert max(len(line.encode()) for line in lines) <= 75
    assert time.strftime("DTSTART:%Y%m%dT%H%M%SZ", time.gmtime(1_790_000_000)) in lines
    whole = text.replace("\r\n ", "")
    assert "SUMMARY:" + "券\\, " * 30 in whole
    assert "DESCRIPTION:one\\ntwo\\; three" in whole
