"""A line of the table: a request made for a user, and what it must be answered."""

from collections.abc import Callable
from typing import NamedTuple

from tests.gateway.lane.plain import BROWSER, Headers, of_a_grab, raw
from tests.gateway.lane.world import token

Make = Callable[[str], bytes]
"""User → the whole request."""


class Case(NamedTuple):
    """`statuses` is what a user who holds nothing is answered; None: only that both agree."""

    name: str
    make: Make
    statuses: tuple[int, ...] | None = None


def always(request: bytes) -> Make:
    """The same for every user."""
    return lambda _user: request


def sent(head: str) -> Make:
    """A grab written out by hand: `{grab}` stands for its own two headers, `{pass}`
    for the pass."""

    def make(user: str) -> bytes:
        own = "\r\n".join(f"{name}: {value}" for name, value in of_a_grab(user))
        text = head.replace("{grab}", own).replace("{pass}", token("open", user))
        return text.encode("latin-1")

    return make


def with_headers(*more: tuple[str, str], browser: Headers = BROWSER) -> Make:
    """A plain grab with these headers at its end."""
    return lambda user: raw(headers=[*browser, *of_a_grab(user), *more])


def to(target: str, method: str = "POST", version: str = "HTTP/1.1") -> Make:
    """A plain grab with another first line."""
    return lambda user: raw(method, target, [*BROWSER, *of_a_grab(user)], version)
