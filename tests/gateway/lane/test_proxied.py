"""The lane behind a listed proxy: the answers of the ordinary way, the buyer's address on both."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.proxied import Proxied
from tests.gateway.lane.conversation import same
from tests.gateway.lane.plain import BROWSER, HOST, grab, of_a_grab, raw
from tests.gateway.lane.sides import Pair, ShiftedClock, pair
from tests.lua.server import Valkey

pytestmark = pytest.mark.anyio

NAME = "X-Forwarded-For"


class Noting(Proxied):
    """Notes each grab's address, and who took it."""

    seen: list[tuple[str, str]]

    def _decide(self, *args: Any) -> None:
        Noting.seen.append(("lane", self.address))
        super()._decide(*args)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        assert self.scope["client"] is not None
        assert self.address == self.scope["client"][0]
        Noting.seen.append(("parser", self.address))


@pytest.fixture(scope="module")
async def proxied(
    two_servers: tuple[Valkey, Valkey], anyio_backend: Any, clock: ShiftedClock
) -> AsyncIterator[Pair]:
    async with pair(two_servers, clock, Noting, trusted_proxies=("127.0.0.1",)) as running:
        yield running


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    Noting.seen = []


async def test_plain_grabs_of_many_buyers_on_one_connection(proxied: Pair) -> None:
    """Each has its own address, all are taken by the lane, and its memory of heads holds one."""
    desk = proxied.lane.served.gateway.desk
    desk.frames.clear()
    rounds = [[grab(f"m{n}", more=[(NAME, f"6.6.6.6, 192.0.2.{n}")])] for n in range(8)]
    heard = await same(proxied, *rounds)
    assert [h.statuses for h in heard] == [[201]] * 8
    assert Noting.seen == [("lane", f"192.0.2.{n}") for n in range(8)]
    assert len(desk.frames) == 1


async def test_two_lines_are_one_list(proxied: Pair) -> None:
    """The right-most address of all lines, wherever they stand and however they are spelt."""
    for n, (first, second) in enumerate([(NAME, NAME.lower()), (NAME.upper(), NAME)]):
        headers = [(first, "6.6.6.6"), *BROWSER, (second, "192.0.2.9"), *of_a_grab(f"t{n}")]
        (heard,) = await same(proxied, [raw(headers=headers)])
        assert heard.statuses == [201]
    assert [address for _, address in Noting.seen] == ["192.0.2.9"] * 2


@pytest.mark.parametrize(
    "line, status",
    [
        ((NAME + " ", "192.0.2.1"), 400),
        ((NAME, "192.0.2.1\0"), 400),
        ((NAME, "192.0.2.1\r"), 400),
        ((NAME, ""), 201),
        ((NAME, "\t192.0.2.1 "), 201),
        ((NAME, "caf\xe9"), 201),
    ],
)
async def test_the_field_is_judged_as_any_other(
    proxied: Pair, line: tuple[str, str], status: int
) -> None:
    """The lane leaves the line out of the head's shape, and takes none that the parser refuses."""
    user = f"j{abs(hash(line)) % 10**9}"
    (heard,) = await same(proxied, [grab(user, more=[line])])
    assert heard.statuses == [status]


@pytest.mark.parametrize("more, status", [(0, 201), (1, 431)])
async def test_the_field_counts(proxied: Pair, more: int, status: int) -> None:
    """64 fields with it, not without it."""
    fixed = [*HOST, (NAME, "192.0.2.1"), *of_a_grab(f"f{more}")]
    headers = [*fixed, *((f"X-{n}", "y") for n in range(64 - len(fixed) + more))]
    (heard,) = await same(proxied, [raw(headers=headers)])
    assert heard.statuses == [status]


async def test_the_parsers_turn(proxied: Pair) -> None:
    """What is not plain has its address, too; and a grab after it on the same connection."""
    forwarded = [(NAME, "192.0.2.3")]
    odd = raw(headers=[*HOST, *of_a_grab("p1"), *forwarded, ("TE", "trailers"), ("Expect", "x")])
    await same(proxied, [odd], [grab("p2", more=[(NAME, "192.0.2.4")])], [grab("p3")])
    assert [address for _, address in Noting.seen] == ["192.0.2.3", "192.0.2.4", "127.0.0.1"]
