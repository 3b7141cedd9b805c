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
    browser.open(sales.url + "/")
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
