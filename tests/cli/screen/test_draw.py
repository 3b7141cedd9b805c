"""The live screen as text, at several sizes."""

from dataclasses import replace
from datetime import datetime

import pytest
from rich.cells import cell_len

from flashgrab.cli.readings import Line
from flashgrab.cli.screen.draw import clock, draw, duration, sparkline
from flashgrab.cli.screen.view import Process, Sale, View

LINE = Line(
    {"GRANTED": 900.0, "REPLAYED": 300.0, "SOLD_OUT": 3000.0, "BUSY": 20.0},
    0.9, 48.3, 640, 12, 58, True, (), 900, 20.1, 80.0, 31.5, 0.04,
    {"I1": True, "I2": True, "I3": True, "I4": True, "I5": True, "I6": True}, (),
)  # fmt: skip
SALE = Sale("Spring sale", "CLAIMABLE", 1, 2, -75.0, 3525.0, 2000, 640)
VIEW = View(
    at=datetime(2026, 11, 22, 18, 1, 15),  # noqa: DTZ001 -- what a wall clock shows
    campaigns=("spring-618", "demo-1"),
    chosen="spring-618",
    sale=SALE,
    line=LINE,
    rates=(0.0, 0.0, 1200.0, 4800.0, 4220.0),
    sold_out_in_s=0.7,
    ledger_lag_s=1.0,
    processes=(
        Process("gateway", 4711, 93.4, 117, 3905),
        Process("worker", 4712, None, 80, 61),
    ),
    silent=(),
    interval_s=1.0,
)
IN_TROUBLE = replace(
    VIEW,
    line=replace(
        LINE,
        lights={"I1": True, "I5": False},
        books_ok=False,
        broken=("spring-618 I5",),
        alarms=("kafka-gone", "ledger-behind"),
    ),
    silent=("relay",),
)


def shown(view: View, width: int, height: int) -> list[str]:
    return [line.rstrip() for line in draw(view, width, height).plain.split("\n")]


EXPECTED = {
    ("VIEW", 100, 17): """\
spring-618  T+1:15  CLAIMABLE  round 1/2  Spring sale                                       18:01:15
grabs/s     4,220    ▃█▇                           batch        31.5 requests a call
            4,800  at most, last 5 s               outbox         12 entries
ms       p50 0.9  p95 20.1  p99 48.3               relay       0.0 s behind
left          640 of 2,000  █████░░░░░░░░░░  32%   ledger         58 facts behind, 1.0 s
                   sold out in about 0.7 s         books    I1 ✓  I2 ✓  I3 ✓  I4 ✓  I5 ✓  I6 ✓
granted       900  █████████                       alarms   none
replayed      300  ███
limit           0                                  part           pid   cpu   MiB  up since
sold out    3,000  █████████████████████████████   gateway       4711   93%   117  1 h 5 min
early           0                                  worker        4712     -    80  1 min 1 s
busy           20  █
too many        0
bad pass        0
other           0

? help  p hold  q quit  1 spring-618  2 demo-1  0 all""",
    ("VIEW", 80, 24): """\
spring-618  T+1:15  CLAIMABLE  round 1/2  Spring sale                   18:01:15
grabs/s     4,220    ▃█▇
            4,800  at most, last 5 s
ms       p50 0.9  p95 20.1  p99 48.3  p99.9 80.0
left          640 of 2,000  ███████████████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░  32%
                   sold out in about 0.7 s
granted       900  ██████████████████
replayed      300  ██████
limit           0
sold out    3,000  █████████████████████████████████████████████████████████████
early           0
busy           20  █
too many        0
bad pass        0
other           0
batch        31.5 requests a call
outbox         12 entries
relay       0.0 s behind
ledger         58 facts behind, 1.0 s
books    I1 ✓  I2 ✓  I3 ✓  I4 ✓  I5 ✓  I6 ✓
alarms   none


? help  p hold  q quit  1 spring-618  2 demo-1  0 all""",
    ("IN_TROUBLE", 40, 12): """\
spring-618  T+1:15  CLAIMABLE…  18:01:15
! no answer from relay
grabs/s     4,220    ▃█▇
            4,800  at most, last 5 s
ms       p50 0.9  p95 20.1  p99 48.3
left          640 of 2,000  ██░░░░░  32%
answers  granted 900  replayed 300  sol…
ledger   58 behind, 1.0 s  relay 0.0 s …
books    I1✓ I2? I3? I4? I5✗ I6?
!        docs/runbook.md#kafka-gone
!        docs/runbook.md#ledger-behind
? help  p hold  q quit  1 spring-618""",
}
"""What is on the screen, for a view and a size."""


@pytest.mark.parametrize("view, width, height", EXPECTED)
def test_the_screen(view: str, width: int, height: int) -> None:
    """Two columns, one column, and as little as fits into 40 x 12 when there is trouble."""
    found = {"VIEW": VIEW, "IN_TROUBLE": IN_TROUBLE}[view]
    assert "\n".join(shown(found, width, height)) == EXPECTED[view, width, height]


@pytest.mark.parametrize("width", [1, 7, 20, 40, 80, 99, 100, 101, 200])
@pytest.mark.parametrize("height", [1, 2, 5, 12, 24, 60])
@pytest.mark.parametrize("view", [VIEW, IN_TROUBLE, replace(VIEW, help=True, held=True)])
def test_it_never_is_larger_than_the_terminal(view: View, width: int, height: int) -> None:
    """Whatever there is to say."""
    lines = draw(view, width, height).plain.split("\n")
    assert len(lines) <= height
    assert all(cell_len(line) <= width for line in lines)


@pytest.mark.parametrize(
    "values, width, expected",
    [
        ((), 10, ""),
        ((0, 0), 10, "  "),
        ((0, 1, 7, 8), 10, " ▂▇█"),
        ((8, 1, 2), 2, "▅█"),
        ((1,), 0, ""),
    ],
)
def test_a_sparkline(values: tuple[float, ...], width: int, expected: str) -> None:
    """The newest values, none of them nothing."""
    assert sparkline(values, width) == expected


@pytest.mark.parametrize(
    "seconds, expected",
    [
        (0.25, "0.2 s"), (8, "8 s"), (59.6, "1 min"), (185, "3 min 5 s"), (3600, "1 h"),
        (7400, "2 h 3 min"), (356_400, "4 d 3 h"),
    ],
)  # fmt: skip
def test_a_duration(seconds: float, expected: str) -> None:
    """In two units at most."""
    assert duration(seconds) == expected


def test_a_clock() -> None:
    """As a countdown is read aloud."""
    assert (clock(5), clock(185.9), clock(3785)) == ("0:05", "3:05", "1:03:05")
