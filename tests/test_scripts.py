"""scripts.py: one loader, in the package or else in the checkout. (Headers: tests/lua/.)"""

import hashlib
from pathlib import Path

import pytest

from flashgrab import scripts
from flashgrab.scripts import ALL, GRAB, Script


def test_texts_and_hashes() -> None:
    """The hash is Redis' name of the text, and every text is ASCII or UTF-8 without a mark."""
    for script in ALL:
        raw = (scripts.CHECKOUT / f"{script.name}.lua").read_bytes()
        assert script.text.encode() == raw
        assert script.sha == hashlib.sha1(raw, usedforsecurity=False).hexdigest()
        assert not raw.startswith(b"\xef\xbb\xbf")


def test_package_comes_before_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the package holds the scripts (the wheel), those are loaded."""
    (tmp_path / "grab.lua").write_text("-- packaged")
    monkeypatch.setattr(scripts, "PACKAGED", tmp_path)
    assert Script(GRAB.name, GRAB.keys, GRAB.args).text == "-- packaged"
