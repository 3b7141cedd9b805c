"""The run's own words: what counts as bad news."""

from dataclasses import replace
from typing import Any

import pytest

from bench import grabs, wrk
from bench.grabs import bad_news
from bench.processes import BadRun
from tests.bench.samples import result

FINE: dict[str, Any] = {"where": "here", "ok": True}


@pytest.mark.parametrize(
    "changes,quick,whole",
    [
        ({}, False, False),
        ({"targets": [{"reached": True}, {"reached": None}]}, False, False),
        ({"targets": [{"reached": False}]}, False, True),
        ({"arrivals": [{**FINE, "ok": False}]}, False, True),
        ({"arrivals": [{**FINE, "audit": {"ok": True}}]}, False, False),
        ({"arrivals": [{**FINE, "audit": {"ok": False}}]}, True, True),
    ],
)
def test_books_count_always_and_targets_in_a_whole_run(
    changes: dict[str, Any], quick: bool, whole: bool
) -> None:
    """What could not be measured is no miss; one short round judges nothing."""
    found = replace(result(), **changes)
    assert bool(bad_news(found, judged=False)) is quick
    assert bool(bad_news(found, judged=True)) is whole


def test_without_wrk_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 2 with one line, before anything is started."""
    monkeypatch.setenv("PATH", "/nonexistent")
    assert grabs.main(["--quick"]) == 2
    assert "apt-get install wrk" in capsys.readouterr().err


def test_a_bad_run_is_one_line_and_no_result(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit 1: a figure of wrong answers is none."""

    def wrong(*_: object) -> None:
        raise BadRun("12 granted for 11 answers")

    monkeypatch.setattr(grabs, "measure", wrong)
    monkeypatch.setattr(wrk, "available", lambda: True)
    monkeypatch.setattr(grabs, "open_files", lambda: None)
    assert grabs.main(["--quick"]) == 1
    assert capsys.readouterr().err == "bench: 12 granted for 11 answers\n"
