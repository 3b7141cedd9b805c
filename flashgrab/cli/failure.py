"""How a command gives up: one line on stderr, no traceback, exit 2."""

from typing import NoReturn


class Failure(Exception):
    """Wrong use, or a service out of reach. The message is one line: what, and what to do."""


def fail(message: str) -> NoReturn:
    """End the command with exit 2 and this one line on stderr (written by `app.main`)."""
    raise Failure(message)
