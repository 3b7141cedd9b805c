"""`flashgrab up` with fake parts, as a program: `up_with_fakes.py OPTIONS…` (those of `up`)."""

import sys
from pathlib import Path

from flashgrab.cli import app, up
from flashgrab.cli.stack import layout

FAKE = str(Path(__file__).with_name("fake_part.py"))


class UpWithFakes(up.Up):
    """The parts are fakes; everything else is real."""

    def __init__(self, options: layout.Options) -> None:
        super().__init__(options, command=lambda name: [sys.executable, FAKE, name])


up.Up = UpWithFakes  # type: ignore[misc] # the command makes its Up by this name
sys.exit(app.main(["up", *sys.argv[1:]]))
