"""The requests that the generators send: files of passes and keys, two lines a request.

Every request has the same first lines (bench/request.head, those of a browser on a phone), then an
Idempotency-Key and a Bearer pass from such a file.
"""

import random
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
PROBES = 8


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
    """Files for one form of pass, each with users of its own, written when first asked for."""

    def __init__(self, folder: Path, passes: Passes, seconds: float) -> None:
        self._folder = folder / passes.form
        self._folder.mkdir()
        self._passes = passes
        self._seconds = seconds

    def probes(self) -> list[str]:
        """Passes of a few users that no file has."""
        return self._minted("probe", PROBES)

    def file(self, name: str) -> Path:
        """The requests of `warm`, W1-CONNECTIONS or W2-CONNECTIONS, or of the storm W3."""
        file = self._folder / name
        if not file.exists():
            pairs = self._storm() if name == "W3" else self._fresh(name)
            file.write_text("".join(f"{token}\n{key}\n" for token, key in pairs))
        return file

    def _fresh(self, name: str) -> list[tuple[str, str]]:
        rate = {"W1": USERS_RATE, "W2": REFUSED_RATE}.get(name[:2])
        users = round(rate * self._seconds) if rate else WARM
        return [(token, key(n)) for n, token in enumerate(self._minted(name, users))]

    def _storm(self) -> list[tuple[str, str]]:
        """The first users of `warm`, who hold coupons by then: with their key, and with another."""
        holders = self._fresh("warm")[:STORM]
        pairs = [*holders, *((token, key(1 << 40 | n)) for n, (token, _) in enumerate(holders))]
        random.Random(SEED).shuffle(pairs)
        return pairs

    def _minted(self, name: str, users: int) -> list[str]:
        file = self._folder / f"{name}.passes"
        if not file.exists():
            self._passes.mint(file, users, f"{name}-")
        return file.read_text().splitlines()
