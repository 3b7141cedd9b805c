"""`flashgrab top` in a pseudo-terminal: its screen, its keys, and the terminal afterwards."""

import itertools
import json
import os
import signal
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli.metrics_server import metrics_server
from tests.cli.screen.terminal import Terminal, terminal
from tests.e2e.running import COMMAND

CAMPAIGNS = ("spring", "summer")
OTHER = """
flashgrab_left{{campaign="{name}",round="1"}} 640.0
flashgrab_grabs_total{{campaign="{name}",outcome="GRANTED"}} {granted}
flashgrab_grabs_total{{campaign="{name}",outcome="PASS_INVALID"}} 3.0
flashgrab_persist_lag_serials{{campaign="{name}"}} 0.0
flashgrab_outbox_entries{{campaign="{name}"}} 2.0
flashgrab_invariant_ok{{campaign="{name}",invariant="I1"}} 1.0
flashgrab_invariant_ok{{campaign="{name}",invariant="I5"}} {books}
"""


class Sale:
    """A stack that only talks: its metrics grow by ten grants a reading."""

    def __init__(self) -> None:
        self.books = 1.0
        self.alarm = 0.0
        self._granted = itertools.count(100, 10)

    def metrics(self) -> str:
        granted = next(self._granted)
        said = [OTHER.format(name=n, granted=granted, books=self.books) for n in CAMPAIGNS]
        return "".join(said) + f'flashgrab_alarm{{alarm="kafka-gone"}} {self.alarm}\n'

    def campaigns(self) -> str:
        now = datetime.now(UTC)

        def at(seconds: int) -> str:
            return (now + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")

        def of(name: str, opens_s: int) -> dict[str, object]:
            row = {"round": 1, "opens_at": at(opens_s), "closes_at": at(9000), "quota": 1000}
            status = "NOT_STARTED" if opens_s > 0 else "CLAIMABLE"
            rounds = [{**row, "left": 640}]
            return {"campaign_id": name, "name": f"The {name} sale", "status": status,
                    "rounds": rounds}  # fmt: skip

        found = [of("spring", -75), of("summer", 3700)]
        return json.dumps({"campaigns": found, "server_time": at(0)})


@pytest.fixture
def sale() -> Sale:
    return Sale()


@pytest.fixture
def stack(sale: Sale, tmp_path: Path) -> Iterator[Path]:
    """A data folder that says that it runs."""
    with metrics_server(sale.metrics, sale.campaigns) as url:
        gateway = {"pid": os.getpid(), "metrics": url, "url": url.removesuffix("/metrics")}
        silent = "http://127.0.0.1:9/metrics"
        run = {"gateway": [gateway], "worker": [{"pid": 1, "metrics": url}],
               "relay": [{"pid": 1, "metrics": silent}]}  # fmt: skip
        (tmp_path / "run.json").write_text(json.dumps(run))
        yield tmp_path


def top(stack: Path, *more: str) -> list[str]:
    return [*COMMAND, "top", "--interval", "0.2", "--data", str(stack), *more]


def is_restored(found: Terminal) -> bool:
    """The shell's screen, a cursor, and the settings of before."""
    return not found.is_alternate and found.shows_cursor and found.settings == found.before


def test_the_screen_shows_the_sale_and_keys_work(stack: Path, sale: Sale) -> None:
    """Numbers where they belong; 1 and 2 choose, ? explains, p holds, a smaller window is no
    trouble, q leaves the terminal as it was."""
    with terminal(*top(stack)) as seen:
        seen.shows("all campaigns  1 of 2 CLAIMABLE", "! no answer from relay", "grabs/s")
        assert seen.is_alternate
        assert not seen.shows_cursor
        seen.shows("1,280 of 2,000", "64%", "books    I1 ✓  I2 ?  I3 ?  I4 ?  I5 ✓  I6 ?")
        seen.shows("outbox          4 entries", "alarms   none", "1 spring  2 summer  0 all")
        seen.shows("sold out in about", "bad pass", f"gateway    {os.getpid():>7}")
        seen.press("1")
        seen.shows("spring  T+1:15  CLAIMABLE", "The spring sale", "640 of 1,000")
        seen.press("2")
        seen.shows("summer  T-1:01:40  NOT_STARTED")
        seen.press("?")
        seen.shows("this help", "hold the picture")
        seen.press("?0")
        seen.shows("all campaigns")
        seen.press("p")
        seen.shows("HELD")
        seen.press("p")
        seen.until(lambda: "HELD" not in seen.text)
        sale.alarm, sale.books = 1.0, 0.0
        seen.shows("docs/runbook.md#kafka-gone", "I5 ✗", "broken: spring I5, summer I5")
        seen.resize(40, 12)
        seen.shows("all campaigns", "grabs/s", "I5✗", "I6?", "kafka-gone", "? help")
        assert len(seen.lines) == 12
        seen.resize(60, 26)
        seen.shows("bad pass")
        seen.press("q")
        assert seen.ended() == 1  # the books are broken
        assert is_restored(seen)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(stack: Path, number: signal.Signals) -> None:
    """Also kill -TERM; exit 0, since the books are well."""
    with terminal(*top(stack), size=(80, 24)) as seen:
        seen.shows("grabs/s")
        seen.process.send_signal(number)
        assert seen.ended() == 0
        assert is_restored(seen)


def test_ctrl_c_is_a_key_too(stack: Path) -> None:
    """From the keyboard, by the terminal's own way."""
    with terminal(*top(stack), size=(80, 24)) as seen:
        seen.shows("grabs/s")
        seen.press("\x03")
        assert seen.ended() == 0
        assert is_restored(seen)


def test_an_error_leaves_the_terminal_as_it_was(stack: Path) -> None:
    """Something that nobody foresaw, in the middle of it."""
    program = (
        "import sys; from flashgrab.cli.screen import live; from flashgrab.cli import app\n"
        "drawn = []\n"
        "def draw(view, *size):\n"
        "    drawn.append(view)\n"
        "    if len(drawn) > 3: raise ZeroDivisionError('unforeseen')\n"
        "    return real(view, *size)\n"
        "real, live.draw = live.draw, draw\n"
        "sys.exit(app.main(sys.argv[1:]))\n"
    )
    words = top(stack)[len(COMMAND) :]
    with terminal(sys.executable, "-c", program, *words) as seen:
        assert seen.ended() == 1
        assert "unforeseen" in seen.text
        assert is_restored(seen)


def test_a_terminal_that_knows_no_size_shows_something(stack: Path) -> None:
    """0 x 0, as serial lines have it: drawn for 80 x 24."""
    with terminal(*top(stack), size=(80, 24), told=(0, 0)) as seen:
        seen.shows("all campaigns", "grabs/s", "books")
        seen.press("q")
        assert seen.ended() == 0
        assert is_restored(seen)


def test_arrows_are_no_keys_however_they_arrive(stack: Path) -> None:
    """The A of Up is not the A that means all campaigns."""
    with terminal(*top(stack, "--campaign", "spring"), size=(80, 24)) as seen:
        seen.shows("The spring sale")
        seen.press("\x1b")
        seen.press("[A\x1b[1;5A\x1bOA?")
        seen.shows("this help", "The spring sale")
        seen.press("q")
        assert seen.ended() == 0


def test_no_color_means_none(stack: Path) -> None:
    """NO_COLOR: no colour in all that was written; bold is no colour."""
    import re

    colours = re.compile(rb"\x1b\[[0-9;]*\b(3[0-7]|9[0-7]|38;[0-9;]+)m")
    for environment, expected in (({"NO_COLOR": "1"}, False), ({}, True)):
        with terminal(*top(stack, "--count", "2"), environment=environment) as seen:
            assert seen.ended() == 0
            assert bool(colours.search(seen.written)) is expected
            assert is_restored(seen)


def test_lines_on_a_terminal_where_they_are_asked_for(stack: Path) -> None:
    """For those who want to scroll back."""
    with terminal(*top(stack, "--count", "1", "--lines")) as seen:
        assert seen.ended() == 0
        assert b"\x1b[?1049h" not in seen.written
        assert "granted" in seen.text


def test_a_dumb_terminal_gets_lines(stack: Path) -> None:
    """Nothing can be drawn there."""
    with terminal(*top(stack, "--count", "1"), environment={"TERM": "dumb"}) as seen:
        assert seen.ended() == 0
        assert b"\x1b" not in seen.written
