"""Draws a view for a terminal of any size. Pure: the same view and size give the same text.

The screen is made of sections in the order of how much they matter in a sale. Each has a short form
and a full one; the short forms that fit are shown, then as many full ones as there is room for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from flashgrab.alarms import RUNBOOK
from flashgrab.cli.screen.view import Process, Sale, View, outcomes

WIDE = 100
"""Columns from which on there are two columns of sections."""
_GAP = 3
_BLOCKS = "▁▂▃▄▅▆▇█"
_BAR, _REST = "█", "░"
_INVARIANTS = ("I1", "I2", "I3", "I4", "I5", "I6")
_STYLES = {"granted": "green", "replayed": "cyan", "busy": "red", "bad pass": "yellow"}
_STATUS = {"CLAIMABLE": "bold green", "PAUSED": "bold yellow", "SOLD_OUT": "bold red"}
_LABEL = 9

HELP = (
    "1-9       one campaign     0 or a   all",
    "p         hold the picture; the next p goes on",
    "? or h    this help        q        quit",
    "",
    "grabs/s   requests for a coupon that were answered, the line is the last two minutes",
    "busy      told 503: waiting was full, Redis was away or not confirmed",
    "too many  told 429 by a rate limit",
    "batch     requests of one script call: it grows with the load",
    "outbox    entries of grants that the ledger is not known to have",
    "relay     age of the oldest grant not yet in Kafka",
    "ledger    grants given and not yet in the ledger, and how old the oldest is",
    "books     I1 to I6 as the live audit finds them: ✓ kept, ✗ broken, ? not known",
)


@dataclass(frozen=True, slots=True)
class Section:
    """Lines of one thing, in a few words and at length. `rank` 0 matters most."""

    rank: int
    short: list[Text]
    full: list[Text]


def draw(view: View, width: int, height: int) -> Text:
    """At most `height` lines of at most `width` cells."""
    top, foot = _header(view, width), _footer(view, width)
    room = max(height - len(top) - 1, 0)
    if view.help:
        body = [Text(line) for line in HELP][:room]
    elif width >= WIDE:
        left = (width - _GAP) // 2
        first = _fit([_rate(view, left), _latency(view, left), _stock(view, left),
                      _outcomes(view, left)], room)  # fmt: skip
        second = _fit([_pipeline(view), _books(view, width), _alarms(view),
                       _processes(view)], room)  # fmt: skip
        body = _beside(first, second, left)
    else:
        body = _fit(
            [
                *(_rate(view, width), _latency(view, width), _stock(view, width)),
                *(_outcomes(view, width), _pipeline(view), _books(view, width)),
                *(_alarms(view), _processes(view)),
            ],
            room,
        )
    blank = [Text()] * (room - len(body))
    lines = [*top, *body, *blank, foot][:height]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
    return Text("\n").join(lines)


def _fit(sections: Sequence[Section], height: int) -> list[Text]:
    """In their order; the short form of those that fit, the full one where there is room."""
    forms: dict[int, list[Text]] = {}
    room = height
    for number, section in sorted(enumerate(sections), key=lambda each: each[1].rank):
        if len(section.short) <= room:
            forms[number] = section.short
            room -= len(section.short)
    for number, section in sorted(enumerate(sections), key=lambda each: each[1].rank):
        more = len(section.full) - len(section.short)
        if number in forms and more <= room:
            forms[number] = section.full
            room -= more
    return [line for number in sorted(forms) for line in forms[number]]


def _beside(first: list[Text], second: list[Text], width: int) -> list[Text]:
    lines = []
    for number in range(max(len(first), len(second))):
        line = first[number].copy() if number < len(first) else Text()
        line.truncate(width, overflow="ellipsis", pad=True)
        line.append(" " * _GAP)
        lines.append(line.append_text(second[number]) if number < len(second) else line)
    return lines


# -- header and footer -----------------------------------------------------------------------------


def _header(view: View, width: int) -> list[Text]:
    line = Text()
    line.append(view.chosen or "all campaigns", "bold")
    sale = view.sale
    if sale is not None:
        if view.chosen is not None:
            line.append(f"  {_when(sale)}", "bold")
        line.append(f"  {sale.status}", _STATUS.get(sale.status, ""))
        if sale.rounds > 1:
            line.append(f"  round {sale.round}/{sale.rounds}")
        line.append(f"  {sale.name}" if sale.name else "", "dim")
    time = Text().append("HELD  " if view.held else "", "bold yellow").append(f"{view.at:%H:%M:%S}")
    line.truncate(max(width - len(time) - 2, 0), overflow="ellipsis", pad=True)
    line.append("  ").append_text(time)
    lines = [line]
    if view.silent:
        lines.append(Text(f"! no answer from {', '.join(view.silent)}", "bold red"))
    return lines


def _when(sale: Sale) -> str:
    """T-0:12 before the opening, T+3:05 since."""
    if sale.opens_in_s > 0:
        return f"T-{clock(sale.opens_in_s)}"
    return f"T+{clock(-sale.opens_in_s)}"


def _footer(view: View, width: int) -> Text:
    keys = "? help  p hold  q quit"
    names = [f"{number} {name}" for number, name in enumerate(view.campaigns, 1)]
    line = Text(keys, "dim")
    for name in [*names, *(["0 all"] if names else [])]:
        if len(line) + len(name) + 2 <= width:
            line.append(f"  {name}", "dim")
    return line


# -- sections --------------------------------------------------------------------------------------


def _rate(view: View, width: int) -> Section:
    now = view.rates[-1] if view.rates else 0.0
    text = f"{now:>8,.0f}"
    line = Text("grabs/s".ljust(_LABEL)).append(text, "bold")
    line.append("  ").append(sparkline(view.rates, width - _LABEL - len(text) - 2), "cyan")
    most = Text(" " * _LABEL + f"{max(view.rates, default=0):>8,.0f}  at most, last ", "dim")
    seconds = len(view.rates) * view.interval_s
    return Section(0, [line], [line, most.append(f"{duration(seconds)}")])


def _latency(view: View, width: int) -> Section:
    line = view.line
    named = [("p50", line.p50_ms), ("p95", line.p95_ms), ("p99", line.p99_ms),
             ("p99.9", line.p999_ms)]  # fmt: skip
    text = Text("ms".ljust(_LABEL))
    for name, value in named:
        cell = f"{name} {number(value, 1)}"
        if len(text) + len(cell) + 2 <= width or name == "p50":
            text.append(f"{cell}  ")
    text.rstrip()
    return Section(3, [text], [text])


def _stock(view: View, width: int) -> Section:
    left, quota = view.left, view.sale.quota if view.sale else 0
    line = Text("left".ljust(_LABEL)).append(f"{number(left, 0):>8}", "bold")
    if quota and left is not None:
        share = min(max(left / quota, 0.0), 1.0)
        line.append(f" of {quota:,}  ")
        cells = width - len(line) - 5
        if cells >= 5:
            full = round(share * cells)
            line.append(_BAR * full, "green").append(_REST * (cells - full), "dim")
            line.append(f"{share:>5.0%}")
    end = Text(" " * (_LABEL + 10))
    if view.sold_out_in_s is not None:
        end.append(f"sold out in about {duration(view.sold_out_in_s)}", "yellow")
    elif left == 0:
        end.append("sold out", "bold red")
    return Section(2, [line], [line, end] if len(end) > _LABEL + 10 else [line])


def _outcomes(view: View, width: int) -> Section:
    by_name = outcomes(view.line)
    most = max(by_name.values())
    cells = max(width - _LABEL - 10, 0)
    full = []
    for name, rate in by_name.items():
        line = Text(name.ljust(_LABEL)).append(f"{rate:>8,.0f}  ")
        bar = round(rate / most * cells) if most else 0
        full.append(line.append(_BAR * (bar or (1 if rate else 0)), _STYLES.get(name, "blue")))
    said = [f"{name} {rate:,.0f}" for name, rate in by_name.items() if rate]
    short = Text("answers".ljust(_LABEL) + ("  ".join(said) or "none"))
    return Section(5, [short], full)


def _pipeline(view: View) -> Section:
    line = view.line
    late = line.lag and view.ledger_lag_s is not None
    seconds = f", {view.ledger_lag_s:,.1f} s" if late else ""
    relay = "-" if line.relay_lag_s is None else f"{line.relay_lag_s:,.1f} s"
    ledger = f"{number(line.lag, 0)} behind{seconds}" if line.lag else number(line.lag, 0)
    short = Text("ledger".ljust(_LABEL) + f"{ledger}  relay {relay}  batch {number(line.batch, 1)}")
    full = [
        Text("batch".ljust(_LABEL) + f"{number(line.batch, 1):>8} requests a call"),
        Text("outbox".ljust(_LABEL) + f"{number(line.outbox, 0):>8} entries"),
        Text("relay".ljust(_LABEL) + f"{relay:>8} behind"),
        Text("ledger".ljust(_LABEL) + f"{number(line.lag, 0):>8} facts behind{seconds}"),
    ]
    return Section(4, [short], full)


def _books(view: View, width: int) -> Section:
    line = Text("books".ljust(_LABEL))
    for name in _INVARIANTS:
        kept = view.line.lights.get(name)
        sign, style = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "dim")}[kept]
        gap = " " if width >= WIDE // 2 else ""
        line.append(f"{name}{gap}").append(sign, style).append(f" {gap}")
    line.rstrip()
    broken = [Text(" " * _LABEL + f"broken: {', '.join(view.line.broken)}", "bold red")]
    return Section(1, [line], [line, *(broken if view.line.broken else [])])


def _alarms(view: View) -> Section:
    names = view.line.alarms
    if not names:
        return Section(6, [], [Text("alarms".ljust(_LABEL)).append("none", "dim")])
    lines = [Text("! ".ljust(_LABEL) + f"{RUNBOOK}#{name}", "bold red") for name in names]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return Section(0, [Text("! ".ljust(_LABEL) + f"{RUNBOOK}#{names[0]}{more}", "bold red")], lines)


def _processes(view: View) -> Section:
    if not view.processes:
        return Section(7, [], [])
    head = Text("part           pid   cpu   MiB  up since", "dim")
    rows = [_process(process) for process in view.processes]
    return Section(7, [], [Text(), head, *rows])


def _process(process: Process) -> Text:
    cpu = "-" if process.cpu_percent is None else f"{process.cpu_percent:.0f}%"
    style = "yellow" if (process.cpu_percent or 0) >= 90 else ""
    line = Text(f"{process.part:<10} {process.pid:>7} ").append(f"{cpu:>5}", style)
    return line.append(f" {process.memory_mib:>5,}  {duration(process.up_s)}")


# -- words -----------------------------------------------------------------------------------------


def sparkline(values: Sequence[float], width: int) -> str:
    """The newest `width` values, the highest of them a full block, none of them nothing."""
    shown = values[-width:] if width > 0 else ()
    most = max(shown, default=0)
    if most <= 0:
        return " " * len(shown)
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[round(value / most * last)] if value else " " for value in shown)


def number(value: float | None, digits: int) -> str:
    """With thousands; "-" for what nobody knows."""
    return "-" if value is None else f"{value:,.{digits}f}"


def clock(seconds: float) -> str:
    """3:05, or 1:03:05."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """8 s, 3 min 5 s, 2 h 3 min, 4 d 2 h: two units at most."""
    whole = round(seconds)
    if seconds < 10 and seconds != whole:
        return f"{seconds:.1f} s"
    for size, name, below, smaller in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"),
                                       (60, "min", 1, "s")):  # fmt: skip
        if whole >= size:
            rest = whole % size // below
            return f"{whole // size} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"
