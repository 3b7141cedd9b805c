"""`flashgrab up` with fake parts, as a program: `up_with_fakes.py OPTIONS…` (those of `up`)."""

import sys
from pathlib import Path

from flashgrab.cli import app, up
from flashgrab.cli.stack import layout

FAKE = str(Path(__file__).with_name("fake_part.py"))


def with_fakes(options: layout.Options) -> up.Up:
    """The parts are fakes; everything else is real."""
    return real(options, command=lambda name: [sys.executable, "-S", FAKE, name])


real = up.Up
setattr(up, "Up", with_fakes)  # noqa: B010 -- the command makes its Up by this name
sys.exit(app.main(["up", *sys.argv[1:]]))
