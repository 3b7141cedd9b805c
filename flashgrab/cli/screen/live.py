"""`flashgrab top` on a terminal: reads, draws, listens to keys, and leaves cleanly."""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections import deque
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from rich.console import Console
from rich.live import Live

from flashgrab.cli import sampling
from flashgrab.cli.failure import Failure
from flashgrab.cli.screen import view as views
from flashgrab.cli.screen.draw import draw
from flashgrab.cli.screen.machine import Processes
from flashgrab.cli.screen.terminal import Keyboard, keys_at_once
from flashgrab.cli.screen.view import HISTORY_MAX, Tick, View
from flashgrab.cli.target import read_run_file

_ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def is_terminal() -> bool:
    """Whether there is a screen to draw on and a keyboard to listen to."""
    dumb = os.environ.get("TERM", "") in ("", "dumb", "unknown")
    return sys.stdout.isatty() and sys.stdin.isatty() and not dumb


def _size(descriptor: int) -> os.terminal_size:
    """Serial lines and some containers say 0 x 0, where nothing could be seen."""
    columns, lines = os.get_terminal_size(descriptor)
    return os.terminal_size((columns or 80, lines or 24))


class Screen:
    """The live screen, from run() until a key or a signal ends it."""

    def __init__(self, data: Path | None, campaign: str | None) -> None:
        self._data = data
        self._chosen = campaign
        self._interval_s = 1.0
        self._history: dict[str | None, deque[Tick]] = {}
        self._heard: sampling.Round | None = None
        self._processes = Processes()
        self._rows: tuple[views.Process, ...] = ()
        self._held: View | None = None
        self._help = False
        self._over = False
        self._wake = asyncio.Event()
        self.broken = False

    async def run(self, interval_s: float, count: int | None) -> None:
        """Until q, a signal, the terminal's end, or so many readings."""
        self._interval_s = interval_s
        loop, keyboard = asyncio.get_running_loop(), Keyboard(sys.stdin.fileno())
        console = Console(markup=False, emoji=False, highlight=False)
        with keys_at_once(keyboard.descriptor), contextlib.ExitStack() as leaving:
            for number in _ENDS:
                loop.add_signal_handler(number, self._end)
                leaving.callback(loop.remove_signal_handler, number)
            # A screen that is left by Ctrl-Z would stay in the shell's way.
            leaving.callback(signal.signal, signal.SIGTSTP, signal.SIG_DFL)
            signal.signal(signal.SIGTSTP, signal.SIG_IGN)
            loop.add_signal_handler(signal.SIGWINCH, self._wake.set)
            leaving.callback(loop.remove_signal_handler, signal.SIGWINCH)
            loop.add_reader(keyboard.descriptor, self._key, keyboard)
            leaving.callback(loop.remove_reader, keyboard.descriptor)
            reading = asyncio.create_task(self._read(count), name="readings")
            reading.add_done_callback(lambda _: self._wake.set())
            try:
                with Live(console=console, screen=True, auto_refresh=False) as live:
                    await self._show(live, reading)
            except OSError:
                if not self._over:  # else the terminal is gone, and so are we
                    raise
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
        if reading.done() and not reading.cancelled():
            reading.result()  # raises what it failed with

    async def _show(self, live: Live, reading: "asyncio.Task[None]") -> None:
        while not self._over and not reading.done():
            live.console.size = _size(sys.stdout.fileno())
            live.update(draw(self.view(), *live.console.size), refresh=True)
            await self._wake.wait()
            self._wake.clear()

    def _end(self) -> None:
        self._over = True
        self._wake.set()

    def _key(self, keyboard: Keyboard) -> None:
        pressed = keyboard.read()
        if pressed is None:
            self._end()
            return
        for key in pressed:
            self.press(key)
        self._wake.set()

    def press(self, key: str) -> None:
        """What a key does."""
        now = self.view()
        if key in "qQ":
            self._over = True
        elif key in "?hH":
            self._help = not self._help
        elif key in "pP ":
            self._held = None if self._held else now
        elif key in "0aA":
            self._chosen = None
        elif key.isdigit() and int(key) <= len(now.campaigns):
            self._chosen = now.campaigns[int(key) - 1]

    # -- readings ----------------------------------------------------------------------------------

    async def _read(self, count: int | None) -> None:
        timeout_s = min(self._interval_s, sampling.TIMEOUT_S_MAX)
        async with sampling.client(timeout_s) as http:
            sampler = sampling.Sampler(self._data, http, public=True)
            due_s = time.monotonic()
            done = -1  # the first reading gives no rates
            while count is None or done < count:
                self.take(await sampler.ask(), time.monotonic())
                done += 1
                self._wake.set()
                due_s = max(due_s + self._interval_s, time.monotonic())
                await asyncio.sleep(due_s - time.monotonic())

    def take(self, heard: sampling.Round, at_s: float) -> None:
        """Note a reading for every campaign that can be chosen, so that each has its history."""
        seconds = at_s - self._last_s() if self._heard is not None else 0.0
        self._heard = heard
        for campaign in {None, self._chosen, *self._campaigns()}:
            ticks = self._history.setdefault(campaign, deque(maxlen=HISTORY_MAX))
            ticks.append(Tick(at_s, seconds, heard.line(campaign)))
        self.broken = self._history[None][-1].line.books_ok is False
        self._rows = ()
        folder = heard.target.folder if heard.target else None
        if folder is not None:
            with contextlib.suppress(Failure):  # it has ended since
                self._rows = self._processes.look(read_run_file(folder))

    def _last_s(self) -> float:
        return self._history[None][-1].at_s

    def _campaigns(self) -> tuple[str, ...]:
        heard = self._heard
        return views.choices(heard.public, heard.campaigns()) if heard else ()

    def view(self) -> View:
        """What is to be seen now."""
        if self._held is not None:
            return replace(self._held, held=True, help=self._help)
        ticks = list(self._history.get(self._chosen, ()))
        heard = self._heard
        sale = views.sale(heard.public, self._chosen) if heard else None
        line = ticks[-1].line if ticks else sampling.NOTHING
        return View(
            at=datetime.now().astimezone(),
            campaigns=self._campaigns(),
            chosen=self._chosen,
            sale=sale,
            line=line,
            rates=views.rates(ticks),
            sold_out_in_s=views.sold_out_in_s(ticks, sale.left if sale else line.left),
            ledger_lag_s=views.ledger_lag_s(ticks),
            processes=self._rows,
            silent=tuple(heard.silent) if heard else (),
            interval_s=self._interval_s,
            help=self._help,
        )
