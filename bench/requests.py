"""The requests that the generators send: files of passes and keys, two lines a request.

Every request has the same first lines (bench/request.head, those of a browser on a phone), then an
Idempotency-Key and a Bearer pass from such a file.
"""

import random
from itertools import islice
from pathlib import Path

from bench.passes import PATH, Passes

HEAD = Path(__file__).with_name("request.head")
SEED = 618
USERS_RATE = 75_000
"""Fresh users a second of a workload in which each is granted; no server here is faster."""
REFUSED_RATE = 130_000
"""The same where all are refused, which is cheaper."""
WARM = 60_000
STORM = 2_000
"""Users of the duplicate storm."""


def head(folder: Path, port: int, path: str = PATH) -> Path:
    """The request's first lines, for one server, as a file that generators read."""
    text = HEAD.read_text().format(path=path, host=f"127.0.0.1:{port}")
    file = folder / f"head.{port}"
    file.write_bytes(text.replace("\n", "\r\n").encode())
    return file


def key(number: int) -> str:
    """An Idempotency-Key as a browser makes them."""
    return f"018f3a5e-7c41-7d2b-9c55-{number:012x}"


class Requests:
    """Files for one form of pass, each with users of its own, written when first asked for.

    The users of `warm` come first; W1 and W2 at one number of connections never share a user.
    """

    def __init__(self, folder: Path, passes: Passes, seconds: float, widths: list[int]) -> None:
        self._folder = folder / passes.form
        self._folder.mkdir()
        self._passes = passes
        self._slices: dict[str, tuple[int, int]] = {}
        at = self._slice("probe", 0, 8)
        at = self._slice("warm", at, WARM)
        for width in widths:
            at = self._slice(f"W1-{width}", at, round(USERS_RATE * seconds))
        for width in widths if passes.form == "blake2s" else ():
            at = self._slice(f"W2-{width}", at, round(REFUSED_RATE * seconds))
        passes.mint(self._folder / "passes", at, "u")

    def _slice(self, name: str, first: int, users: int) -> int:
        self._slices[name] = (first, users)
        return first + users

    def probes(self) -> list[str]:
        """Passes of a few users that no file has."""
        return self._lines("probe")

    def file(self, name: str) -> Path:
        """The requests of `warm`, W1-CONNECTIONS or W2-CONNECTIONS, or of the storm W3."""
        file = self._folder / name
        if not file.exists():
            pairs = self._storm() if name == "W3" else self._fresh(name)
            file.write_text("".join(f"{token}\n{key}\n" for token, key in pairs))
        return file

    def _fresh(self, name: str) -> list[tuple[str, str]]:
        first = self._slices[name][0]
        return [(token, key(n)) for n, token in enumerate(self._lines(name), first)]

    def _storm(self) -> list[tuple[str, str]]:
        """The first users of `warm`, who hold coupons by then: with their key, and with another."""
        holders = self._fresh("warm")[:STORM]
        pairs = [*holders, *((token, key(1 << 40 | n)) for n, (token, _) in enumerate(holders))]
        random.Random(SEED).shuffle(pairs)
        return pairs

    def _lines(self, name: str) -> list[str]:
        first, users = self._slices[name]
        with (self._folder / "passes").open() as lines:
            return [line.rstrip("\n") for line in islice(lines, first, first + users)]
