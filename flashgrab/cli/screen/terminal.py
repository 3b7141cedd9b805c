"""The keyboard of a terminal, a key at a time, and as it was before when we are done."""

import contextlib
import os
import re
import termios
import tty
from collections.abc import Iterator

_BYTES_MAX = 64
_SEQUENCE = re.compile(rb"\x1b(?:\[\[[A-E]|\[[0-?]*[ -/]*[@-Z\\-~]|O[ -~])")
"""CSI and SS3 of ECMA-48 as keyboards send them, and the function keys of Linux' own console."""
_BEGUN = re.compile(rb"\x1b(?:\[\[?|\[[0-?]{1,32}[ -/]{0,8}|O)?\Z")


@contextlib.contextmanager
def keys_at_once(descriptor: int) -> Iterator[None]:
    """No waiting for Enter and no echo inside the block; Ctrl-C and Ctrl-Z stay signals.

    TCSANOW: a terminal that takes no more output must not keep us from leaving.
    """
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor, termios.TCSANOW)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)


class Keyboard:
    """What is pressed on a terminal. Arrows and the like are no keys, also where the bytes of one
    arrive apart from each other: the A of Up means nothing."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._begun = b""

    def read(self) -> str | None:
        """The keys that were pressed; None at the end of the terminal."""
        try:
            pressed = os.read(self.descriptor, _BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return ""
        except OSError:
            return None
        if not pressed:
            return None
        known = _SEQUENCE.sub(b"", self._begun + pressed)
        begun = _BEGUN.search(known)
        self._begun = begun[0] if begun else b""
        return known.removesuffix(self._begun).replace(b"\x1b", b"").decode("ascii", "ignore")
