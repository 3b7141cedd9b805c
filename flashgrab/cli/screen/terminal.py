"""The keyboard of a terminal, a key at a time, and as it was before when we are done."""

import contextlib
import os
import termios
import tty
from collections.abc import Iterator

_BYTES_MAX = 64


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


def read_keys(descriptor: int) -> str | None:
    """The keys that were pressed; None at the end of the terminal. Arrows and the like are none."""
    try:
        pressed = os.read(descriptor, _BYTES_MAX)
    except (BlockingIOError, InterruptedError):
        return ""
    except OSError:
        return None
    if not pressed:
        return None
    return "" if pressed.startswith(b"\x1b") else pressed.decode("ascii", "ignore")
