"""Keys as they arrive from a terminal."""

import os
from collections.abc import Iterator

import pytest

from flashgrab.cli.screen.terminal import Keyboard

CASES = {
    "keys": ([b"1", b"q"], "1q"),
    "an arrow at once": ([b"\x1b[A1"], "1"),
    "an arrow in three parts": ([b"\x1b", b"[", b"A", b"1"], "1"),
    "an arrow with Ctrl": ([b"\x1b[1;", b"5A", b"2"], "2"),
    "an arrow of application mode": ([b"\x1bO", b"A", b"?"], "?"),
    "a function key of Linux' console": ([b"\x1b[[", b"A"], ""),
    "Esc, then a key": ([b"\x1b", b"q"], "q"),
    "keys between arrows": ([b"1\x1b[B2\x1b[5~3"], "123"),
    "letters that are none of ours": (["é1".encode()], "1"),
}


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.mark.parametrize("arrivals, keys", CASES.values(), ids=CASES)
def test_what_arrives_becomes_keys(pipe: tuple[int, int], arrivals: list[bytes], keys: str) -> None:
    """Sequences are none, however they are cut."""
    keyboard = Keyboard(pipe[0])
    found = ""
    for arrival in arrivals:
        os.write(pipe[1], arrival)
        found += keyboard.read() or ""
    assert found == keys
