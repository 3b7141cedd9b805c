"""Accessibility by axe-core, which comes in a wheel: rules that a machine can check."""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

from tests.browser.chromium import Browser

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]


@cache
def source() -> str:
    """axe.min.js, out of the package that carries it."""
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None
    assert found.origin is not None
    (script,) = Path(found.origin).parent.rglob("axe.min.js")
    return script.read_text(encoding="utf-8")


def accessibility(browser: Browser) -> list[str]:
    """What is wrong with the page as it is now: rule, help, and where."""
    browser.run(source())
    told: dict[str, Any] = browser.driver.execute_async_script(
        "const [rules, done] = arguments;"
        "axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(done)",
        RULES,
    )
    return [
        f"{violation['id']}: {violation['help']}: {', '.join(str(n['target']) for n in nodes)}"
        for violation in told["violations"]
        if (nodes := violation["nodes"])
    ]
