"""The operator's console in a real browser, over a whole stack that sells, fails and recovers."""

import os
import signal
import time
from typing import Any

import pytest
from selenium.webdriver.common.action_chains import ActionChains

from tests.browser.axe import accessibility
from tests.browser.chromium import Browser
from tests.browser.console import choose, published, signed_in
from tests.e2e.running import Stack, until

pytestmark = pytest.mark.xdist_group("browser")

CUT = ("ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE")


def test_a_sale_with_a_killed_worker(browser: Browser, sold: Stack) -> None:
    """Numbers while it sells; the light of the parts is red while the worker is away and green
    when the supervisor has it back; the books end balanced; then the sale can be replayed."""
    published(sold, "rush", 2000, opens="+6s")
    signed_in(browser, sold)
    choose(browser, "rush")
    browser.sees("#clock", "T\N{MINUS SIGN}")
    crowd = sold.begin("rehearse", "--campaign", "rush", "--buyers", "3000")
    browser.sees("#state", "OPEN", 30)
    until("grants are shown", lambda: browser.text("#rate-small").startswith("most: "), 30)
    # the supervisor is quick: what the page shows meanwhile is noted in the page itself
    browser.run(
        "window.seen = []; const look = () => window.seen.push(["
        "document.getElementById('t-parts').className,"
        "document.getElementById('t-parts').innerText,"
        "document.getElementById('parts').innerText].join(' '));"
        "new MutationObserver(look).observe(document.getElementById('t-parts'),"
        " {subtree: true, childList: true, characterData: true});"
    )
    pid = sold.kill("worker")
    until("red", lambda: any("bad" in text for text in browser.run("return window.seen")))
    browser.shoot("console-worker-down")
    (red, *_) = [text for text in browser.run("return window.seen") if "bad" in text]
    assert "✗ 1 down" in red
    assert "✗ down" in red
    sold.back("worker", pid)
    browser.sees("#parts-light", "All up", 20)
    out, err = crowd.communicate(timeout=60)
    assert crowd.returncode == 0, out + err
    browser.sees("#state", "SOLD OUT", 20)
    until("all are persisted", lambda: "Persisted\n2,000" in browser.text("#books"), 30)
    browser.sees("#books-light", "Balance", 30)
    notes = browser.text("#notes")
    assert f"died worker {pid}" in notes
    assert "started worker" in notes
    assert "sold out round 1" in notes
    assert "opened round 1" in notes
    assert browser.text("#left") == "0"
    assert "GRANTED 2,000" in " ".join(browser.text("#reasons").split())
    assert accessibility(browser) == []
    _stands_still(browser)
    browser.shoot("console-after-sale", keep=True, kind="webp")
    for scheme in ("light", "dark"):
        browser.wear(scheme=scheme, width=320, height=1200)
        until("it is narrow", lambda: browser.run("return innerWidth") == 320)
        browser.shoot(f"console-{scheme}-320", keep=True, whole=False, kind="webp")
    browser.wear()
    _replay(browser)


def _stands_still(browser: Browser) -> None:
    """The first view is of the sale, counts from its opening, and slides no more once it is over;
    other views slide by the clock."""
    assert browser.text('#ranges [aria-pressed="true"]') == "Sale"
    began = browser.text("#clock")
    shown = browser.text("#span")
    assert shown.startswith("T\N{MINUS SIGN}3 s to T+")
    until("time goes on", lambda: browser.text("#clock") not in (began, ""))
    assert browser.text("#span") == shown
    browser.click('#ranges button[value="20"]')
    until("by the clock", lambda: ":" in browser.text("#span"))
    by_clock = browser.text("#span")
    until("it slides", lambda: browser.text("#span") not in (by_clock, ""))
    browser.click('#ranges button[value="0"]')
    until("the sale again", lambda: browser.text("#span") == shown)


def _replay(browser: Browser) -> None:
    until("it is kept", lambda: browser.run(
        "const s = document.getElementById('replay');"
        "const o = [...s.options].find((o) => o.value === 'rush 1'); if (!o) return false;"
        "s.value = o.value; s.dispatchEvent(new Event('change')); return true;"
    ))  # fmt: skip
    browser.sees("#replaying", "Replay")
    browser.run("document.getElementById('speed').value = '20'")
    until("it is over", lambda: browser.text("#play") == "Play", 30)
    assert "GRANTED 2,000" in " ".join(browser.text("#reasons").split())
    assert browser.text("#left") == "0"
    assert browser.text("#forecast").startswith("T+")
    browser.click("#reset")
    until("live again", lambda: not browser.text("#replaying"))


def test_old_news_are_marked(browser: Browser, sold: Stack) -> None:
    """A centre that says nothing for 3 s: a banner; it ends when the centre goes on."""
    signed_in(browser, sold)
    for part in CUT:
        browser.expect(part)
    pid = int(sold.run_json()["centre"][0]["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        browser.sees("#stale", "No news from the centre", 15)
        browser.shoot("console-stale", keep=True, whole=False, kind="webp")
    finally:
        os.kill(pid, signal.SIGCONT)
    until("fresh again", lambda: not browser.text("#stale"), 20)


@pytest.mark.parametrize("scheme, width", [("dark", 1280), ("light", 320), ("dark", 320)])
def test_it_fits_and_can_be_read(browser: Browser, sold: Stack, scheme: str, width: int) -> None:
    """Narrow and dark: nothing hangs out at the side, and the checker finds nothing; the charts
    are walked by keyboard."""
    browser.wear(scheme=scheme, width=width, height=900)
    signed_in(browser, sold)
    choose(browser, "first")
    until("charts", lambda: browser.run("return document.querySelector('canvas').width > 100"))
    assert not browser.scrolls_sideways
    assert accessibility(browser) == []
    browser.run("document.querySelector('canvas').focus()")
    browser.press("ARROW_LEFT", "ARROW_LEFT", "ESCAPE")
    label = browser.run("return document.querySelector('canvas').getAttribute('aria-label')")
    assert label.startswith("Answers by outcome")
    browser.shoot(f"console-fits-{scheme}-{width}")


def test_longer_times_come_from_the_ledger(browser: Browser, sold: Stack) -> None:
    """24 h, and a drag over a chart, show what was kept."""
    signed_in(browser, sold)
    choose(browser, "first")
    for value in ("86400", "3600", "20"):
        browser.click(f'#ranges button[value="{value}"]')
        pressed = f'#ranges button[value="{value}"][aria-pressed="true"]'
        until("it is pressed", lambda pressed=pressed: browser.text(pressed))  # type: ignore[misc]
    _drag(browser)
    browser.sees("#reset", "Back to live")
    browser.click("#reset")
    until("live", lambda: not browser.text("#reset"))


def test_a_slow_answer_does_not_overwrite_a_newer_view(browser: Browser, sold: Stack) -> None:
    """A zoom stays although the history that was asked for before it comes later; and what comes
    for another campaign is not shown."""
    signed_in(browser, sold)
    choose(browser, "first")
    browser.run(
        "const real = window.fetch; window.late = 0;"
        "window.fetch = async (path, ...more) => {"
        "  const answer = await real(path, ...more);"
        "  if (!String(path).startsWith('/ops/history') || !window.slow) return answer;"
        "  await new Promise((done) => { window.free = done; });"
        "  window.late += 1; return answer; };"
        "window.slow = true;"
    )
    browser.click('#ranges button[value="3600"]')
    until("asked", lambda: browser.run("return Boolean(window.free)"))
    browser.run("window.slow = false")
    _drag(browser)
    browser.sees("#reset", "Back to live")
    zoomed = browser.text("#span")
    browser.run("window.free()")
    until("it came", lambda: browser.run("return window.late") == 1)
    _a_moment(browser)
    assert browser.text("#span") == zoomed
    assert browser.text("#reset") == "Back to live"

    browser.click("#reset")
    browser.run("window.free = null; window.slow = true")
    _drag(browser)
    until("asked", lambda: browser.run("return Boolean(window.free)"))
    browser.run("window.slow = false")
    published(sold, "another", 3, opens="+1h")
    choose(browser, "another")
    browser.sees("#left-small", "of 3")
    browser.run("window.free()")
    until("it came", lambda: browser.run("return window.late") == 2)
    _a_moment(browser)
    assert not browser.text("#reset")
    first, _, last = browser.text("#span").partition(" to ")
    assert _second(last) - _second(first) in (120, 120 - 86_400)  # nothing has opened there


def _drag(browser: Browser) -> None:
    canvas = browser.find("canvas")
    actions = ActionChains(browser.driver)
    actions.move_to_element_with_offset(canvas, -50, 0).click_and_hold()
    actions.move_by_offset(120, 0).release().perform()


def _a_moment(browser: Browser) -> None:
    """Until the page has painted again, twice."""
    browser.driver.execute_async_script(
        "const done = arguments[0]; setTimeout(() => requestAnimationFrame(() => done()), 600)"
    )


def _second(shown: str) -> int:
    hours, minutes, seconds = (int(part) for part in shown.split(":"))
    return hours * 3600 + minutes * 60 + seconds


def test_two_rounds_are_told_apart(browser: Browser, sold: Stack) -> None:
    """Left and state are those of the round that is shown, also once it has none left."""
    later = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 4 * 3600))
    published(sold, "rounds", 2, {"opens_at": later, "closes_at": "+1h", "quota": 7})
    signed_in(browser, sold)
    choose(browser, "rounds")
    browser.sees("#left-small", "of 2")
    until("left", lambda: browser.text("#left") == "2")
    assert "Left, all rounds\n9" in browser.text("#books")
    assert browser.text("#state") == "OPEN"
    crowd = sold.command("rehearse", "--campaign", "rounds", "--buyers", "4")
    assert crowd.returncode == 0, crowd.stdout + crowd.stderr
    browser.sees("#state", "SOLD OUT")
    assert browser.text("#left") == "0"
    browser.sees("#forecast", "T+")
    browser.reload()  # and by the books alone
    choose(browser, "rounds")
    browser.sees("#state", "SOLD OUT")
    browser.sees("#forecast", "T+")


def test_a_sale_is_found_by_name(browser: Browser, sold: Stack) -> None:
    """What is typed narrows the list of campaigns and of sales to replay; what is looked at
    stays."""
    published(sold, "needle", 4)
    signed_in(browser, sold)
    choose(browser, "first")
    browser.find("#find").send_keys("Test NEED")
    options = "return [...document.getElementById('campaign').options].map((o) => o.value)"
    until("found", lambda: browser.run(options) == ["first", "needle"])
    sales = "return [...document.getElementById('replay').options].map((o) => o.value)"
    assert browser.run(sales) == ["", "needle 1", "first 1"]
    browser.find("#find").clear()
    browser.find("#find").send_keys(" ")
    until("all again", lambda: len(browser.run(options)) > 2)


def test_left_by_round_and_moment(browser: Browser, sold: Stack) -> None:
    """By the gateways' rows where there are some; else by the books: before the first grab, after
    a restock, in the next round from its beginning, and of a release that kept the sum alone."""
    two = {"rounds": [{"round": 1, "closes_at": 100_000}, {"round": 2, "closes_at": 300_000}]}
    one = {"rounds": [{"round": 1, "closes_at": 100_000}]}

    def book(t: int, *lefts: int) -> dict[str, Any]:
        by_round = {str(n): left for n, left in enumerate(lefts, 1)}
        return {"t": t, "book": {"left": sum(lefts), "lefts": by_round}}

    rows = [{"t": 50_000, "left": {"1": 3}}, {"t": 51_000, "left": {"1": 0}}]
    of_old = [{"t": 1000, "book": {"left": 9}}]
    table: list[tuple[Any, Any, Any, int, list[tuple[int, int]]]] = [
        ([], [book(1000, 5, 7)], two, 9000, [(1000, 5), (9000, 5)]),
        ([], [book(1000, 0, 7)], two, 9000, [(1000, 0), (9000, 0)]),
        ([], [book(1000, 0, 7)], two, 120_000, [(1000, 0), (100_000, 7), (120_000, 7)]),
        (rows, [book(49_000, 1, 7)], two, 60_000, [(50_100, 3), (51_100, 0), (60_000, 0)]),
        (rows, [book(58_000, 15, 7)], two, 60_000,
         [(50_100, 3), (51_100, 0), (58_000, 15), (60_000, 15)]),
        ([], of_old, one, 9000, [(1000, 9), (9000, 9)]),
        ([], of_old, two, 9000, []),
    ]  # fmt: skip
    browser.open(f"{sold.centre_url}/ops")
    for given, books, campaign, until_ms, want in table:
        found = browser.driver.execute_async_script(
            "const [rows, books, campaign, until, done] = arguments;"
            "import('/ops/static/sale.js').then(({ leftsOf }) => done("
            " leftsOf(rows, books, campaign, { from: 0, until, step: 100 })), (e) => done(`${e}`))",
            given, books, campaign, until_ms,
        )  # fmt: skip
        assert [(one["t"], one["left"]) for one in found] == want, (given, books)
