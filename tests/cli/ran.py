"""A command in this process: how it ended, and what it printed."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from flashgrab.cli.app import main


class Ran(NamedTuple):
    """How a command ended."""

    status: int
    out: str
    err: str


Run = Callable[..., Ran]


def ran(capsys: pytest.CaptureFixture[str], *arguments: str) -> Ran:
    """Runs it."""
    status = main(list(arguments))
    said = capsys.readouterr()
    return Ran(status, said.out, said.err)
