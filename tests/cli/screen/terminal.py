"""A program in a pseudo-terminal of a size, its screen as a person sees it, and keys."""

import fcntl
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import pyte

DEADLINE_S = 30.0
ALTERNATE = 1049 << 5
"""As pyte keeps the private mode of the second screen."""
_TAKES_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    " os.execv(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """One program; `columns` by `lines`. Whatever happens, it is gone at the end of the block."""

    def __init__(
        self,
        argv: Sequence[str],
        columns: int,
        lines: int,
        environment: Mapping[str, str] | None = None,
        told: tuple[int, int] | None = None,
    ) -> None:
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self._master, self._slave = os.openpty()
        self._set_size(*(told or (columns, lines)))
        self.before = termios.tcgetattr(self._slave)
        self.written = b""
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("FLASHGRAB_") and name not in ("COLUMNS", "LINES", "NO_COLOR")
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKES_TERMINAL, *argv],
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            start_new_session=True,
            env={**clean, "TERM": "xterm-256color", **(environment or {})},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without blanks at the ends."""
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def is_alternate(self) -> bool:
        """Whether the program's own screen covers the shell's."""
        return ALTERNATE in self._screen.mode

    @property
    def shows_cursor(self) -> bool:
        return not self._screen.cursor.hidden

    @property
    def settings(self) -> list[Any]:
        """Of the terminal, as `stty` would show them."""
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """As if somebody drags the corner: the kernel tells the program."""
        self._screen.resize(lines, columns)
        self._screen.reset()
        self._set_size(columns, lines)

    def until(self, met: Callable[[], bool]) -> None:
        """Read on until it is so; fails with the screen."""
        end = time.monotonic() + DEADLINE_S
        while not met():
            assert time.monotonic() < end, f"waited in vain:\n{self.text}"
            self._read(0.05)

    def shows(self, *words: str) -> None:
        """Read on until all of these are on the screen."""
        self.until(lambda: all(word in self.text for word in words))

    def ended(self) -> int:
        """Wait for the end, and take in what was still said."""
        self.until(lambda: self.process.poll() is not None)
        self._read(0.1)
        return self.process.returncode

    def _read(self, seconds: float) -> None:
        while select.select([self._master], [], [], seconds)[0]:
            said = os.read(self._master, 65536)
            self.written += said
            self._stream.feed(said)
            seconds = 0

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))


@contextmanager
def terminal(
    *argv: str,
    size: tuple[int, int] = (120, 36),
    environment: Mapping[str, str] | None = None,
    told: tuple[int, int] | None = None,
) -> Iterator[Terminal]:
    """A program in a terminal of its own; `told` is what the kernel says of its size, if not it."""
    with Terminal(argv, *size, environment, told) as found:
        yield found
