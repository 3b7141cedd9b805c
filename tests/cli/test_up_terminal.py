"""Ctrl-C in a terminal, through make."""

import os
import pty
import shutil
import sys
from pathlib import Path

import pytest

FOREGROUND = Path(__file__).resolve().parents[2] / "scripts" / "foreground.py"
PROGRAM = """
import signal, sys
signal.signal(signal.SIGINT, lambda *_: sys.exit(print("bye")))
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_ctrl_c_through_make_is_a_clean_end(tmp_path: Path) -> None:
    """A program that ends well at Ctrl-C ends `make` well too, which would else report an error."""
    (tmp_path / "program.py").write_text(PROGRAM)
    recipe = f"\t@exec {sys.executable} {FOREGROUND} {sys.executable} program.py\n"
    (tmp_path / "Makefile").write_text(f"run:\n{recipe}")
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvp("make", ["make", "run"])
    said = b""
    try:
        while b"ready" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"bye" not in said:
            said += os.read(terminal, 1000)
    finally:
        _, status = os.waitpid(pid, 0)
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
