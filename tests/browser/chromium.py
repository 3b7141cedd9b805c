"""A real browser: Debian's Chromium, driven by selenium. What it complains of fails the test."""

import base64
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from selenium.common.exceptions import StaleElementReferenceException, WebDriverException
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.e2e.running import until

ROOT = Path(__file__).parent.parent.parent
SHOTS = ROOT / ".screenshots"
KEPT = "FLASHGRAB_SCREENSHOTS"
"""Environment: the folder of the screenshots that the documents show."""
WITHIN_S = 20
LOCAL = re.compile(r"(https?|wss?)://127\.0\.0\.1(:\d+)?(/|$)|(data|blob|about|chrome|devtools):")
REFUSED = re.compile(
    r"http://127\.0\.0\.1:\d+/v1/\S* - Failed to load resource: .* status of (4\d\d|503)"
)
OPTIONS = (
    "--headless=new",
    "--no-sandbox",  # root has none
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


def missing() -> str | None:
    """What is not here of what these tests need, None where all is."""
    absent = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    return f"no {', '.join(absent)} on this machine: make browser" if absent else None


class Browser:
    """One Chromium. A test has a tab of its own; `driver` is selenium's."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._agent = str(driver.execute_script("return navigator.userAgent"))
        self._origins: set[str] = set()
        self._expected: list[str] = []

    # -- tabs --------------------------------------------------------------------------------------

    def fresh(self) -> None:
        """A new tab; nothing is stored, in no other tab either."""
        old = self.driver.window_handles
        self.driver.switch_to.new_window("tab")
        mine = self.driver.current_window_handle
        for handle in old:
            self.driver.switch_to.window(handle)
            self.driver.close()
        self.driver.switch_to.window(mine)
        for origin in self._origins:
            self.cdp("Storage.clearDataForOrigin", origin=origin, storageTypes="all")
        self.cdp("Network.clearBrowserCache")
        self.cdp("Network.clearBrowserCookies")
        self._origins.clear()
        self._expected.clear()
        self._complaints()
        self.wear()

    def second_tab(self) -> str:
        """Go to another tab with the same storage; gives the handle of the one before."""
        before = self.driver.current_window_handle
        self.driver.switch_to.new_window("tab")
        self.wear()
        return before

    def go_back_to(self, handle: str) -> None:
        self.driver.switch_to.window(handle)

    def wear(
        self,
        *,
        lang: str = "en-US",
        scheme: str = "light",
        width: int = 1280,
        height: int = 800,
        still: bool = False,
        script: bool = True,
    ) -> None:
        """What the next page is seen with; `still`: prefers-reduced-motion."""
        self.cdp("Emulation.setUserAgentOverride", userAgent=self._agent, acceptLanguage=lang)
        self.cdp(
            "Emulation.setEmulatedMedia",
            features=[
                {"name": "prefers-color-scheme", "value": scheme},
                {"name": "prefers-reduced-motion", "value": "reduce" if still else ""},
            ],
        )
        self.cdp(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.cdp("Emulation.setScriptExecutionDisabled", value=not script)

    def before_it(self, script: str) -> None:
        """JavaScript that every page of this tab runs before its own."""
        self.cdp("Page.addScriptToEvaluateOnNewDocument", source=script)

    # -- doing -------------------------------------------------------------------------------------

    def open(self, url: str) -> None:
        parts = urlsplit(url)
        self._origins.add(f"{parts.scheme}://{parts.netloc}")
        self.driver.get(url)

    def reload(self) -> None:
        self.driver.refresh()

    def find(self, selector: str) -> WebElement:
        """The one element of a CSS selector; waits for it."""
        found = until(selector, lambda: self.driver.find_elements(By.CSS_SELECTOR, selector))
        assert isinstance(found, list)
        element = found[0]
        assert isinstance(element, WebElement)
        return element

    def click(self, selector: str) -> None:
        self.find(selector).click()

    def press(self, *keys: str) -> None:
        """Keys into whatever has the focus."""
        for key in keys:
            self.driver.switch_to.active_element.send_keys(getattr(Keys, key, key))

    def run(self, script: str, *arguments: Any) -> Any:
        """JavaScript in the page, and what it returns."""
        return self.driver.execute_script(script, *arguments)

    def cdp(self, command: str, **arguments: Any) -> Any:
        """A command of Chromium's own protocol to this tab."""
        return self.driver.execute_cdp_cmd(command, arguments)

    # -- seeing ------------------------------------------------------------------------------------

    def text(self, selector: str) -> str:
        """What can be read there now, "" where it is not there or not shown."""
        try:
            found = self.driver.find_elements(By.CSS_SELECTOR, selector)
            return str(found[0].text).strip() if found and found[0].is_displayed() else ""
        except StaleElementReferenceException:
            return ""

    def sees(self, selector: str, part: str = "", seconds: float = WITHIN_S) -> str:
        """Wait until something can be read there, and this is part of it; gives all of it."""
        try:
            return str(
                until(
                    f"{part!r} at {selector}",
                    lambda: (text := self.text(selector)) and part in text and text,
                    seconds,
                )
            )
        except AssertionError as error:
            shown = self.text("body")
            raise AssertionError(f"{error}; the page says: {shown[:2000]}") from None

    @property
    def scrolls_sideways(self) -> bool:
        return bool(
            self.run("const d = document.documentElement; return d.scrollWidth > d.clientWidth")
        )

    def shoot(
        self, name: str, *, keep: bool = False, whole: bool = True, kind: str = "png"
    ) -> Path:
        """A screenshot of the page, or of what the window shows of it; `keep`: one of those that
        the documents show. As `kind` "webp" it is a third as large, and not quite exact."""
        kept = os.environ.get(KEPT)
        folder = Path(kept) if keep and kept else SHOTS
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{name}.{kind}"
        taken = self.cdp("Page.captureScreenshot", format=kind, captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(taken["data"]))
        return path

    # -- complaints --------------------------------------------------------------------------------

    def expect(self, part: str) -> None:
        """A line of the console that holds this is what the test wants."""
        self._expected.append(part)

    def assert_quiet(self) -> None:
        """No error in the console, no request to anybody but this machine, since the last look."""
        found = self._complaints()
        assert not found, "\n".join(found)

    def _complaints(self) -> list[str]:
        found = []
        for entry in self.driver.get_log("browser"):  # type: ignore[no-untyped-call]
            line = str(entry["message"])
            if entry["level"] != "SEVERE" or REFUSED.match(line):
                continue
            if not any(part in line for part in self._expected):
                found.append(f"console: {line}")
        for entry in self.driver.get_log("performance"):  # type: ignore[no-untyped-call]
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                url = event["params"]["request"]["url"]
                if not LOCAL.match(url):
                    found.append(f"asked {url}")
        return found


@contextmanager
def running() -> Iterator[Browser]:
    """A browser until the block ends."""
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for option in OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver") or ""))
    try:
        driver.set_page_load_timeout(WITHIN_S)
        driver.set_script_timeout(WITHIN_S)
        yield Browser(driver)
    finally:
        try:
            driver.quit()
        except WebDriverException:
            driver.service.stop()
