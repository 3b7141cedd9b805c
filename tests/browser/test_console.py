"""The operator's console in a real browser, over a whole stack that sells, fails and recovers."""

import json
import os
import signal
from collections.abc import Iterator

import httpx2
import pytest
from selenium.webdriver.common.action_chains import ActionChains

from tests.browser import chromium
from tests.browser.axe import accessibility
from tests.browser.chromium import Browser
from tests.conftest import require
from tests.e2e.running import Stack, simple, stack, until

pytestmark = pytest.mark.xdist_group("browser")

CUT = ("ERR_CONNECTION", "ERR_INCOMPLETE", "ERR_EMPTY_RESPONSE")


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack; its first sale, `first`, is open."""
    require(chromium.missing())
    with stack(tmp_path_factory.mktemp("console") / "data") as running:
        running.campaign(simple("first", quota=50))
        yield running


def token(running: Stack, role: str) -> str:
    made = running.command("token", "create", "--role", role, "--name", role, "--json")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["token"])


def link(running: Stack, of: str = "") -> str:
    """A sign-in link of the root, or of a token."""
    shown = of or running.secrets()["FLASHGRAB_ADMIN_TOKEN"]
    with httpx2.Client(base_url=running.centre_url, verify=False) as http:
        made = http.post(
            "/v1/sign-ins",
            headers={"authorization": f"Bearer {shown}", "idempotency-key": os.urandom(8).hex()},
        )
    assert made.status_code == 201, made.text
    return running.centre_url + str(made.json()["path"])


def signed_in(browser: Browser, running: Stack, of: str = "") -> None:
    browser.open(link(running, of))
    browser.sees("#books-light", "Balance", 30)


def choose(browser: Browser, campaign_id: str) -> None:
    """Look at this campaign, once the picker has it."""
    until("it can be chosen", lambda: browser.run(
        "const s = document.getElementById('campaign');"
        "if (![...s.options].some((o) => o.value === arguments[0])) return false;"
        "s.value = arguments[0]; s.dispatchEvent(new Event('change')); return true;",
        campaign_id,
    ))  # fmt: skip


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
    browser.expect("401")
    browser.open(once)
    browser.sees("#who", "not signed in")


def test_a_sale_with_a_killed_worker(browser: Browser, sold: Stack) -> None:
    """Numbers while it sells; the light of the parts is red while the worker is away and green
    when the supervisor has it back; the books end balanced; then the sale can be replayed."""
    sold.campaign(simple("rush", quota=2000, opens="+8s"))
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
    browser.shoot("console-after-sale", keep=True)
    _replay(browser)


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


def test_buttons_are_for_those_who_may(browser: Browser, sold: Stack) -> None:
    """An operator pauses, an approver restocks by typing the amount twice, a viewer and a read-only
    link have no button, and the server refuses what the page does not offer."""
    sold.campaign(simple("roles", quota=10))
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


def test_old_news_are_marked(browser: Browser, sold: Stack) -> None:
    """A centre that says nothing for 3 s: a banner; it ends when the centre goes on."""
    signed_in(browser, sold)
    for part in CUT:
        browser.expect(part)
    pid = int(sold.run_json()["centre"][0]["pid"])
    os.kill(pid, signal.SIGSTOP)
    try:
        browser.sees("#stale", "No news from the centre", 15)
        browser.shoot("console-stale")
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
    browser.shoot(f"console-{scheme}-{width}", keep=width == 320)


def test_longer_times_come_from_the_ledger(browser: Browser, sold: Stack) -> None:
    """24 h, and a drag over a chart, show what was kept."""
    signed_in(browser, sold)
    choose(browser, "first")
    for value in ("86400", "3600", "20"):
        browser.click(f'#ranges button[value="{value}"]')
        pressed = f'#ranges button[value="{value}"][aria-pressed="true"]'
        until("it is pressed", lambda pressed=pressed: browser.text(pressed))  # type: ignore[misc]
    canvas = browser.find("canvas")
    actions = ActionChains(browser.driver)
    actions.move_to_element_with_offset(canvas, -50, 0).click_and_hold()
    actions.move_by_offset(120, 0).release().perform()
    browser.sees("#reset", "Back to live")
    browser.click("#reset")
    until("live", lambda: not browser.text("#reset"))
